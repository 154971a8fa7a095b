-- Policies of one's own. A document has every member of 0005's, and may have two more:
--
--   "waivers": ["uids"]                    controls a worker may lack and still serve; absent or empty is none
--   "warm": {"python3": {"mode": "interpreter", "imports": ["json"]}}
--                                          cells that wait with the interpreter started; absent is none
--
-- Judged strictly and as a whole before anything is stored: a member that is not known, not there or written twice, a
-- value of another kind, a default over its ceiling is refused with its path. What is stored is the canonical form of
-- what was given, so two spellings of one policy have one name.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- The controls a policy may waive: those that bound what cells can do to each other and to the host's load. Without
-- the others (namespaces, mounts, capabilities, no_new_privs, seccomp, memory, …) a cell is none, so no document can
-- waive them. Swift's PolicyTerms.waivable is this list; a test compares them.
create function waivable_controls() returns text[]
language sql immutable security definer set search_path = cordon, pg_temp as $$
  select array['cgroup.pids', 'cgroup.swap', 'groups', 'landlock', 'uids']
$$;

create function waived_controls(document text) returns text[]
language sql immutable strict security definer set search_path = cordon, pg_temp as $$
  select array(select jsonb_array_elements_text(coalesce(document::jsonb -> 'waivers', '[]')))
$$;

-- The path of a member that stands twice in its object; null when none does. jsonb would keep the last one silently.
create function duplicate_member(base text, value json) returns text
language plpgsql immutable security definer set search_path = cordon, pg_temp as $$
declare
  twice text;
  e record;
begin
  if json_typeof(value) = 'object' then
    select member(base, o.key) into twice from json_each(value) o group by o.key having count(*) > 1 order by 1 limit 1;
    for e in select member(base, o.key) as path, o.value from json_each(value) o loop
      exit when twice is not null;
      twice := duplicate_member(e.path, e.value);
    end loop;
  elsif json_typeof(value) = 'array' then
    for e in
      select format('%s[%s]', base, a.number - 1) as path, a.value
      from json_array_elements(value) with ordinality a (value, number)
    loop
      exit when twice is not null;
      twice := duplicate_member(e.path, e.value);
    end loop;
  end if;
  return twice;
end
$$;

create function parse_policy(document text) returns jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  most constant int := 65536;
  parsed jsonb;
  twice text;
  finding text;
  place text;
begin
  if document is null then
    perform refuse('22023', 'policy', 'is missing');
  elsif octet_length(document) > most then
    perform refuse('22023', 'policy', format('%s bytes; at most %s are allowed', octet_length(document), most));
  end if;
  begin
    twice := duplicate_member('', document::json);
    parsed := document::jsonb;
  exception
    when statement_too_complex then
      perform refuse('22023', 'policy', 'nested too deep');
    when untranslatable_character then
      perform refuse('22023', 'policy', 'holds \u0000');
    when invalid_text_representation or numeric_value_out_of_range then
      get stacked diagnostics finding = message_text, place = pg_exception_detail;
      finding := concat_ws('; ', finding, nullif(place, ''));
      perform refuse('22023', 'policy',
        'is no JSON: ' || left(regexp_replace(finding, '[\s[:cntrl:]]+', ' ', 'g'), 200));
  end;
  if twice is not null then
    perform refuse('22023', twice, 'is there twice');
  elsif has_extreme_number(parsed) then
    perform refuse('22023', 'policy', 'holds a number that no 64-bit float can hold');
  end if;
  return parsed;
end
$$;

-- RFC 8785 for what a checked policy can hold: names are ASCII, so bytes sort as UTF-16 does; numbers lie where the
-- shortest decimal that reads back as the same double is written without an exponent.
create function canonical_json(value jsonb) returns text
language sql immutable security definer set search_path = cordon, pg_temp set extra_float_digits = 1 as $$
  select case jsonb_typeof(value)
    when 'object' then '{' || coalesce((
      select string_agg(to_json(o.key)::text || ':' || canonical_json(o.value), ',' order by o.key collate "C")
      from jsonb_each(value) o), '') || '}'
    when 'array' then '[' || coalesce((
      select string_agg(canonical_json(a.value), ',' order by a.number)
      from jsonb_array_elements(value) with ordinality a (value, number)), '') || ']'
    when 'number' then trim_scale((value #>> '{}')::float8::text::numeric)::text
    else value::text
  end
$$;

create function check_members(base text, value jsonb, required text[], optional text[] default '{}') returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  at_fault text;
begin
  if jsonb_typeof(value) is distinct from 'object' then
    perform refuse('22023', coalesce(nullif(base, ''), 'policy'), shown(value) || ' is no object');
  end if;
  select k.name into at_fault from jsonb_object_keys(value) k (name) where k.name <> all (required || optional)
  order by 1 limit 1;
  if found then
    perform refuse('22023', member(base, at_fault), 'unknown member',
      'the members are ' || array_to_string(required || optional, ', '));
  end if;
  select r into at_fault from unnest(required) r where not value ? r limit 1;
  if found then
    perform refuse('22023', member(base, at_fault), 'is missing');
  end if;
end
$$;

-- A list of different words, each of `allowed` or, where that is null, each the name of a Python module.
create function check_words(field text, value jsonb, allowed text[]) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  most constant int := 64;
  longest constant int := 128;
  w record;
begin
  if jsonb_typeof(value) is distinct from 'array' then
    perform refuse('22023', field, shown(value) || ' is no array of strings');
  elsif jsonb_array_length(value) > most then
    perform refuse('22023', field, format('%s entries; at most %s are allowed', jsonb_array_length(value), most));
  end if;
  for w in
    select format('%s[%s]', field, a.number - 1) as path, a.value as given, a.value #>> '{}' as word,
      count(*) over (partition by a.value order by a.number) > 1 as again
    from jsonb_array_elements(value) with ordinality a (value, number) order by a.number
  loop
    if jsonb_typeof(w.given) <> 'string' then
      perform refuse('22023', w.path, shown(w.given) || ' is no string');
    elsif w.again then
      perform refuse('22023', w.path, shown(w.given) || ' is there twice');
    elsif allowed is null and (octet_length(w.word) > longest
      or w.word !~ '^[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)*$') then
      perform refuse('22023', w.path, shown(w.given) || ' is no name of a module');
    elsif w.word <> all (allowed) then
      perform refuse('22023', w.path, shown(w.given) || ' is unknown or cannot be in a policy',
        'there are ' || array_to_string(allowed, ', '));
    end if;
  end loop;
end
$$;

-- A limit as `read_limit` reads it, below bounds that keep every sum of limits a bigint.
create function read_policy_limit(field text, kind text, value jsonb) returns bigint
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  amount constant bigint := read_limit(field, kind, value);
  -- A year, a pebibyte, a thousand times a thousand processors, an int.
  most constant bigint := case kind
    when 'duration' then 31622400000 when 'size' then 1125899906842624 when 'cpus' then 1000000000 else 2147483647 end;
begin
  if amount > most then
    perform refuse('22023', field, format('%s is more than any policy can allow', shown(value)));
  end if;
  return amount;
end
$$;

create function check_policy(document jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  limits constant text[] := array(select n.name from limit_names() n);
  l record;
  warm constant jsonb := document -> 'warm' -> 'python3';
begin
  perform check_members('', document, array['ceilings', 'defaults', 'lease', 'runtimes', 'version'],
    array['waivers', 'warm']);
  if document -> 'version' <> '1' then
    perform refuse('22023', 'version', shown(document -> 'version') || ' is not 1');
  end if;
  perform check_words('runtimes', document -> 'runtimes', array['bash', 'exec', 'python3']);
  perform check_members('defaults', document -> 'defaults', limits);
  perform check_members('ceilings', document -> 'ceilings', limits);
  for l in
    select n.name, document -> 'defaults' -> n.name as usual,
      read_policy_limit('ceilings.' || n.name, n.kind, document -> 'ceilings' -> n.name) as most,
      read_policy_limit('defaults.' || n.name, n.kind, document -> 'defaults' -> n.name) as amount
    from limit_names() n
  loop
    if l.amount > l.most then
      perform refuse('22023', 'defaults.' || l.name, format('%s is over the ceiling of %s', shown(l.usual),
        document -> 'ceilings' ->> l.name));
    end if;
  end loop;
  perform check_members('lease', document -> 'lease', array['attempts', 'margin']);
  if read_policy_limit('lease.attempts', 'count', document -> 'lease' -> 'attempts') > 100 then
    perform refuse('22023', 'lease.attempts', shown(document -> 'lease' -> 'attempts') || ' is more than 100');
  end if;
  perform read_policy_limit('lease.margin', 'duration', document -> 'lease' -> 'margin');
  if document ? 'waivers' then
    perform check_words('waivers', document -> 'waivers', waivable_controls());
  end if;
  if document ? 'warm' then
    perform check_members('warm', document -> 'warm', '{}', array['python3']);
  end if;
  if warm is not null then
    perform check_members('warm.python3', warm, array['mode'], array['imports']);
    if warm -> 'mode' <> '"interpreter"' then
      perform refuse('22023', 'warm.python3.mode', shown(warm -> 'mode') || ' is unknown; use interpreter');
    elsif warm ? 'imports' then
      perform check_words('warm.python3.imports', warm -> 'imports', null);
    end if;
  end if;
end
$$;

-- Puts a document in force for every job that is enqueued from now on, and returns its name. Jobs that were accepted
-- keep the policy they were accepted under. The one that is in force already changes nothing.
create function set_policy(document text) returns text
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  parsed constant jsonb := parse_policy(set_policy.document);
  canonical text;
  name text;
  before text;
begin
  perform check_policy(parsed);
  canonical := canonical_json(parsed);
  name := 'sha256:' || encode(sha256(convert_to(canonical, 'UTF8')), 'hex');
  -- One at a time, so that what the audit calls the policy before is that.
  lock table policy_in_force in share row exclusive mode;
  before := (select p.digest from policy_in_force p order by p.id desc limit 1);
  if name is distinct from before then
    insert into policy (digest, document) values (name, canonical) on conflict do nothing;
    insert into policy_in_force (digest) values (name);
    insert into audit (what, detail) values ('policy_set', jsonb_build_object('policy', name, 'before', before));
  end if;
  return name;
end
$$;

create function show_policy() returns table (digest text, document text, since timestamptz, set_by name)
language sql stable security definer set search_path = cordon, pg_temp as $$
  select p.digest, p.document, f.since, f.added_by from policy_in_force f join policy p on p.digest = f.digest
  order by f.id desc limit 1
$$;

grant execute on function set_policy(text) to cordon_operator;
grant execute on function show_policy() to cordon_worker, cordon_operator, cordon_auditor;
