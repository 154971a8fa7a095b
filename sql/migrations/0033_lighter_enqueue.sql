-- What an enqueue need not work out each time: the limits that a policy gives to who asks for none, and its ceilings, as the
-- numbers that its texts mean. They are written down once for each policy; `enqueue_jobs` hands them on beside the document
-- as a member `amounts`, which no document can have by itself. And where every specification of a call is plain and asks
-- for no limits, nothing is gone through one by one.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

create table policy_amounts (
  policy text primary key references policy,
  -- {"defaults": {"wall_ms": …}, "ceilings": {"wall_ms": …}}, by the names of `limit_names`.
  amounts jsonb not null
);

create function refuse_limit(field text, asked jsonb, most jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  perform refuse('CD001', field, format('%s is over the %s that policy allows', shown(asked), most #>> '{}'),
    format('ask for at most %s', most #>> '{}'));
end
$$;

-- As in 0005.
create or replace function effective_limits(base text, asked jsonb, document jsonb) returns jsonb
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
  if asked is null and document ? 'amounts' then
    return document -> 'amounts' -> 'defaults';
  end if;
  select name into field from jsonb_object_keys(asked) k (name) where name not in (select n.name from limit_names() n)
  order by name limit 1;
  if found then
    perform refuse('22023', member(base || 'limits', field), 'unknown limit',
      'the limits are ' || (select string_agg(name, ', ') from limit_names()));
  end if;

  if document ? 'amounts' then
    result := document -> 'amounts' -> 'defaults';
    for l in select n.*, asked -> n.name as value from limit_names() n where jsonb_typeof(asked -> n.name) <> 'null' loop
      field := base || 'limits.' || l.name;
      amount := read_limit(field, l.kind, l.value);
      if amount > (document -> 'amounts' -> 'ceilings' ->> l.stored)::bigint then
        perform refuse_limit(field, l.value, document -> 'ceilings' -> l.name);
      end if;
      result := result || jsonb_build_object(l.stored, amount);
    end loop;
    return result;
  end if;
  for l in select * from limit_names() loop
    field := base || 'limits.' || l.name;
    value := nullif(asked -> l.name, 'null');
    amount := read_limit(field, l.kind, coalesce(value, document -> 'defaults' -> l.name));
    allowed := document -> 'ceilings' -> l.name;
    if amount > read_limit(field, l.kind, allowed) then
      perform refuse_limit(field, value, allowed);
    end if;
    result := result || jsonb_build_object(l.stored, amount);
  end loop;
  return result;
end
$$;

create function amounts(document jsonb) returns jsonb
language sql stable security definer set search_path = cordon, pg_temp as $$
  select jsonb_build_object('defaults', effective_limits('', null, document), 'ceilings', (
    select jsonb_object_agg(l.stored, read_limit(l.name, l.kind, document -> 'ceilings' -> l.name)) from limit_names() l))
$$;

create function keep_amounts() returns trigger
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
begin
  insert into policy_amounts (policy, amounts) values (new.digest, amounts(new.document::jsonb));
  return null;
end
$$;

create trigger amounts after insert on policy for each row execute function keep_amounts();
insert into policy_amounts (policy, amounts) select digest, amounts(document::jsonb) from policy;

-- As in 0022.
create or replace function enqueue_jobs(
  me principal, base text, queue text, specifications jsonb[], key text, run_at timestamptz, priority int,
  start_before timestamptz, lane text, after uuid[], on_failure text, first_id uuid, retry_of uuid
) returns uuid[]
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  queue_id constant smallint := open_queue(me, enqueue_jobs.queue);
  place_state text;
  ageing bigint;
  lane_id int;
  place_rank bigint;
  open_parents uuid[];
  rules constant policy := current_policy();
  -- As `effective_limits` likes to read it.
  document constant jsonb := rules.document::jsonb
    || coalesce((select jsonb_build_object('amounts', a.amounts) from policy_amounts a where a.policy = rules.digest), '{}');
  begins constant bigint := micros(clock_timestamp());
  latest constant timestamptz := clock_timestamp() + interval '100 years';
  specification jsonb;
  i bigint;
  margin constant bigint := parse_duration(document -> 'lease' ->> 'margin');
  tries constant smallint := (document -> 'lease' ->> 'attempts')::smallint;
  plain boolean[];
  asked jsonb;
  last_asked jsonb;
  allowed jsonb;
  limits jsonb[] := '{}';
  retries jsonb[] := '{}';
  ids uuid[] := '{}';
begin
  perform check_priority(enqueue_jobs.priority);
  if enqueue_jobs.priority < me.first_priority then
    perform refuse('42501', 'priority', format('%s is more urgent than the %s that role %s may ask for',
      enqueue_jobs.priority, me.first_priority, shown(me.role::text)));
  end if;
  if not isfinite(enqueue_jobs.run_at) then
    perform refuse('22023', 'run_at', 'must be a finite time');
  elsif enqueue_jobs.run_at > latest then
    perform refuse('22023', 'run_at', format('%s is more than 100 years away', iso(enqueue_jobs.run_at)));
  elsif not isfinite(enqueue_jobs.start_before) then
    perform refuse('22023', 'start_before', 'must be a finite time');
  elsif enqueue_jobs.start_before <= greatest(clock_timestamp(), enqueue_jobs.run_at) then
    perform refuse('22023', 'start_before', format('%s is over before the job may start',
      iso(enqueue_jobs.start_before)));
  end if;
  select q.state, q.ageing_ms into place_state, ageing from queue q where q.id = queue_id;
  if place_state = 'draining' then
    perform refuse('CD503', 'queue', shown(enqueue_jobs.queue) || ' is draining and takes no jobs',
      'an operator opens it with cordon queue resume');
  end if;
  open_parents := open_jobs(me, enqueue_jobs.after, coalesce(enqueue_jobs.on_failure, 'cancel'));
  lane_id := open_lane(queue_id, me.tenant, coalesce(enqueue_jobs.lane, ''));
  place_rank := greatest(begins, micros(enqueue_jobs.run_at)) / 1000 + enqueue_jobs.priority * ageing;
  -- What is plainly right is seen in one statement for all; what is not goes through every check, and to its refusal.
  plain := array(
    select coalesce(jsonb_typeof(v) = 'object' and v - '{runtime,argv,code,args,stdin,limits}'::text[] = '{}'
      and octet_length(v::text) <= 131071 and document -> 'runtimes' ? (v ->> 'runtime')
      and case v ->> 'runtime'
        when 'exec' then not v ?| '{code,args}' and v -> 'argv' ->> 0 <> '' and are_texts(v -> 'argv')
        else jsonb_typeof(v -> 'code') = 'string' and not v ? 'argv' and (not v ? 'args' or are_texts(v -> 'args')) end
      and (not v ? 'stdin' or jsonb_typeof(v -> 'stdin') = 'string'), false)
    from unnest(specifications) with ordinality s (v, number) order by s.number);
  if false = any (plain) or exists (select from unnest(specifications) v where v ? 'limits') then
    for specification, i in select s.value, s.ordinality from unnest(specifications) with ordinality s (value) loop
      asked := nullif(specification -> 'limits', 'null');
      if not plain[i] then
        allowed := check_specification(replace(base, '#', (i - 1)::text), specification, me.tenant, document);
        retries := retries || read_retry(replace(base, '#', (i - 1)::text), specification -> 'retry');
      else
        -- Most jobs of a call ask for the same limits, and to work them out takes longer than all other checks.
        if allowed is null or asked is distinct from last_asked then
          allowed := effective_limits(replace(base, '#', (i - 1)::text), asked, document);
        end if;
        retries := retries || null::jsonb;
      end if;
      last_asked := asked;
      limits := limits || allowed;
    end loop;
  else
    limits := array_fill(effective_limits(base, null, document), array[cardinality(specifications)]);
    retries := array_fill(null::jsonb, array[cardinality(specifications)]);
  end if;
  ids := array(
    select case when n = 1 and first_id is not null then first_id else uuid7(begins + n - 1) end
    from generate_series(1, cardinality(specifications)) n order by n);
  insert into job (id, tenant, queue, priority, specification, limits, policy, max_attempts, margin_ms, key, run_at,
    enqueued_by, retry, start_before, retry_of, lane, rank)
  select n.id, me.tenant, queue_id, enqueue_jobs.priority, n.specification, n.job_limits, rules.digest,
    greatest(tries, (n.retry ->> 'attempts')::smallint), margin, enqueue_jobs.key, enqueue_jobs.run_at, me.role,
    n.retry, enqueue_jobs.start_before, enqueue_jobs.retry_of, lane_id, place_rank
  from unnest(ids, specifications, limits, retries) n (id, specification, job_limits, retry);
  if open_parents <> '{}' then
    insert into blocked (job, queue, lane, rank, run_at, on_failure)
    select id, queue_id, lane_id, place_rank, enqueue_jobs.run_at, coalesce(enqueue_jobs.on_failure, 'cancel')
    from unnest(ids) n (id);
    insert into dependency (parent, child) select p, id from unnest(open_parents) p cross join unnest(ids) n (id);
  elsif enqueue_jobs.run_at > clock_timestamp() then
    insert into scheduled (run_at, job, queue, lane, rank, attempt)
    select enqueue_jobs.run_at, id, queue_id, lane_id, place_rank, 0 from unnest(ids) n (id);
  else
    insert into ready (queue, lane, rank, job, attempt)
    select queue_id, lane_id, place_rank, id, 0 from unnest(ids) n (id);
    perform wake(queue_id);
  end if;
  if enqueue_jobs.start_before is not null then
    insert into deadline (start_before, job) select enqueue_jobs.start_before, id from unnest(ids) n (id);
  end if;
  return ids;
end
$$;

-- Many texts at once. Which one is refused, and why, is found out one by one, when there is one: each needs a savepoint for that.
create function parse_specifications(specifications text[]) returns jsonb[]
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  most constant int := 1048576;
begin
  if not exists (select from unnest(specifications) s where octet_length(s) > most) then
    return array(select s.text::jsonb from unnest(specifications) with ordinality s (text, number) order by s.number);
  end if;
  raise data_exception;
exception when data_exception or statement_too_complex or untranslatable_character then
  return array(select parse_specification(s.text, 'specifications[' || s.number - 1 || '].')
    from unnest(specifications) with ordinality s (text, number) order by s.number);
end
$$;

grant execute on function parse_specifications(text[]) to cordon_producer;
