-- The policy document and the limits it leads to. A document is canonical JSON (RFC 8785: sorted members, no white
-- space) named by the sha256 of its bytes; a job keeps the name of the one that was in force when it was accepted, and
-- its worker checks the bytes against the name. `defaults` apply where a job says nothing, `ceilings` are what it may
-- ask for at most, `lease.margin` is the time a worker has beside wall and grace to stage, collect and report.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

do $$
declare
  canonical constant text := concat(
    '{"ceilings":{"cpus":16,"files":65536,"grace":"1m","memory":"8GiB","output":"1GiB","pids":4096,',
    '"result":"1MiB","stdout":"16MiB","tmp":"1GiB","wall":"24h"},',
    '"defaults":{"cpus":1,"files":1024,"grace":"2s","memory":"256MiB","output":"64MiB","pids":64,',
    '"result":"256KiB","stdout":"1MiB","tmp":"16MiB","wall":"5m"},',
    '"lease":{"attempts":5,"margin":"5m"},"runtimes":["bash","exec","python3"],"version":1}');
begin
  insert into policy (digest, document)
  values ('sha256:' || encode(sha256(convert_to(canonical, 'UTF8')), 'hex'), canonical);
  insert into policy_in_force (digest) select digest from policy;
end
$$;

create function current_policy() returns policy
language sql stable security definer set search_path = cordon, pg_temp as $$
  select p from policy p where digest = (select digest from policy_in_force order by id desc limit 1)
$$;

-- The limits a job can have: the member of `limits` in a specification and in a policy, how it is written, and the
-- member of the normalised form that workers read.
create function limit_names() returns table (name text, kind text, stored text)
language sql immutable security definer set search_path = cordon, pg_temp as $$
  values ('wall', 'duration', 'wall_ms'), ('grace', 'duration', 'grace_ms'), ('memory', 'size', 'memory_bytes'),
    ('cpus', 'cpus', 'cpu_millis'), ('pids', 'count', 'pids'), ('output', 'size', 'output_bytes'),
    ('files', 'count', 'output_files'), ('tmp', 'size', 'tmp_bytes'), ('stdout', 'size', 'stream_bytes'),
    ('result', 'size', 'result_bytes')
$$;

-- One limit as a whole number of its stored unit; refuses what is not written as its kind is.
create function read_limit(field text, kind text, value jsonb) returns bigint
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  is_number constant boolean := jsonb_typeof(value) = 'number';
  number constant numeric := case when is_number then (value #>> '{}')::numeric end;
  word constant text := case when jsonb_typeof(value) = 'string' then value #>> '{}' end;
  whole constant bigint := case
    when number between 1 and 9223372036854775807 and number = trunc(number) then number::bigint end;
  amount bigint;
begin
  case kind
    when 'duration' then
      amount := parse_duration(word);
      if amount is null then
        perform refuse('22023', field, shown(value)
          || case when is_number then ' has no unit' else ' is no duration' end || '; write 5m, 30s or 500ms');
      end if;
    when 'size' then
      amount := coalesce(whole, parse_size(word));
      if amount is null then
        perform refuse('22023', field, shown(value) || ' is no size; write 256MiB or a positive number of bytes');
      end if;
    when 'cpus' then
      -- A thousandth of a processor is the unit; the bound keeps the product a bigint.
      if number between 0.01 and 1000000 then
        amount := round(number * 1000)::bigint;
      else
        perform refuse('22023', field, shown(value) || ' is no number of processors; write 1 or 0.5, at least 0.01');
      end if;
    else
      amount := whole;
      if amount is null then
        perform refuse('22023', field, shown(value) || ' is no positive whole number');
      end if;
  end case;
  return amount;
end
$$;

-- The normalised limits of a job that asks for `asked` under a policy document.
create function effective_limits(base text, asked jsonb, document jsonb) returns jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  l record;
  field text;
  value jsonb;
  amount bigint;
  allowed jsonb;
  result jsonb := '{}';
begin
  if jsonb_typeof(asked) = 'null' then
    asked := null;
  elsif jsonb_typeof(asked) <> 'object' then
    perform refuse('22023', base || 'limits', 'must be an object such as {"wall": "5m", "memory": "256MiB"}');
  end if;
  select name into field from jsonb_object_keys(asked) k (name) where name not in (select n.name from limit_names() n)
  order by name limit 1;
  if found then
    perform refuse('22023', member(base || 'limits', field), 'unknown limit',
      'the limits are ' || (select string_agg(name, ', ') from limit_names()));
  end if;

  for l in select * from limit_names() loop
    field := base || 'limits.' || l.name;
    value := nullif(asked -> l.name, 'null');
    amount := read_limit(field, l.kind, coalesce(value, document -> 'defaults' -> l.name));
    allowed := document -> 'ceilings' -> l.name;
    if amount > read_limit(field, l.kind, allowed) then
      perform refuse('CD001', field, format('%s is over the %s that policy allows', shown(value), allowed #>> '{}'),
        format('ask for at most %s', allowed #>> '{}'));
    end if;
    result := result || jsonb_build_object(l.stored, amount);
  end loop;
  return result;
end
$$;
