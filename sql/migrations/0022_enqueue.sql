-- Putting work in, with all that 0017, 0018 and 0020 brought. Who enqueues is the role of the session, and the tenant is the
-- one an operator gave that role; no argument can say otherwise. An enqueue runs in the producer's own transaction.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- The most urgent priority a principal may ask for.
alter table principal add column first_priority smallint not null default 0 check (first_priority between 0 and 9);

drop function add_principal(text, text, text[]);

-- As in 0008, and the priority.
create function add_principal(role text, tenant text, queues text[] default null, first_priority int default 0
) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  stranger text;
begin
  if not exists (select from pg_roles r where r.rolname = add_principal.role) then
    perform refuse('22023', 'role', shown(add_principal.role) || ' is no role of this cluster',
      'create it first: CREATE ROLE … LOGIN IN ROLE cordon_producer');
  elsif add_principal.tenant !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' then
    perform refuse('22023', 'tenant', shown(add_principal.tenant) || ' is no name of a tenant',
      'letters, digits, . _ and -, a letter or digit first, at most 63');
  elsif cardinality(add_principal.queues) = 0 then
    perform refuse('22023', 'queues', 'an empty list allows nothing; leave it out to allow every queue');
  elsif not coalesce(add_principal.first_priority between 0 and 9, false) then
    perform refuse('22023', 'first_priority', format('%s is not 0 to 9',
      coalesce(add_principal.first_priority::text, 'null')));
  end if;
  select n into stranger from unnest(add_principal.queues) n
  where not exists (select from queue q where q.name = n) limit 1;
  if found then
    perform refuse('22023', 'queues', shown(stranger) || ' is unknown');
  end if;
  insert into principal (role, tenant, queues, first_priority)
  values (add_principal.role, add_principal.tenant, add_principal.queues, add_principal.first_priority)
  on conflict (role) do update set tenant = excluded.tenant, queues = excluded.queues,
    first_priority = excluded.first_priority, added_at = clock_timestamp(), added_by = session_user;
  insert into audit (what, detail) values ('principal_added', jsonb_build_object(
    'role', add_principal.role, 'tenant', add_principal.tenant, 'queues', add_principal.queues,
    'first_priority', add_principal.first_priority));
end
$$;

-- Those of the jobs that are not over. One that is over and did not succeed has nobody wait for it who would be cancelled.
create function open_jobs(me principal, jobs uuid[], on_failure text) returns uuid[]
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  most constant int := 1000;
  j record;
  still_open uuid[] := '{}';
begin
  if on_failure not in ('cancel', 'run') then
    perform refuse('22023', 'on_failure', shown(on_failure) || ' is unknown; use cancel or run');
  elsif cardinality(jobs) > most then
    perform refuse('22023', 'after', format('%s jobs; at most %s are allowed', cardinality(jobs), most));
  end if;
  for j in
    select g.id, min(g.number) - 1 as number from unnest(jobs) with ordinality g (id, number) group by g.id order by 2
  loop
    if not exists (select from job x where x.id = j.id and x.tenant = me.tenant) then
      perform refuse('CD404', format('after[%s]', j.number), format('there is no job %s', coalesce(j.id::text, 'null')));
    elsif not is_over(j.id) then
      still_open := still_open || j.id;
    elsif on_failure = 'cancel' and exists (
      select from attempt a where a.job = j.id and a.final and a.outcome <> 'succeeded')
    then
      perform refuse('22023', format('after[%s]', j.number), format('job %s is over and did not succeed', j.id),
        'retry it first, or say on_failure => ''run''');
    end if;
  end loop;
  return still_open;
end
$$;

drop function enqueue_jobs(text, text, jsonb[], text, timestamptz, int, uuid);
drop function enqueue(text, jsonb, text, timestamptz, int);
drop function enqueue_job(text, jsonb, text, timestamptz, int);

-- Whether a value is a list of at most 1024 strings.
create function are_texts(list jsonb) returns boolean
language sql immutable security definer set search_path = cordon, pg_temp as $$
  select case when jsonb_typeof(list) <> 'array' then false
    else jsonb_array_length(list) <= 1024 and not jsonb_path_exists(list, 'strict $[*] ? (@.type() != "string")') end
$$;

-- As in 0008, for a principal: who asks is the role of the session, or whom a schedule acts for.
create function enqueue_jobs(
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
  document constant jsonb := rules.document;
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
  for specification, i in select s.value, s.ordinality from unnest(specifications) with ordinality s (value) loop
    if plain[i] then
      asked := nullif(specification -> 'limits', 'null');
      retries := retries || null::jsonb;
    else
      perform check_specification(replace(base, '#', (i - 1)::text), specification, me.tenant, document);
      asked := nullif(specification -> 'limits', 'null');
      retries := retries || read_retry(replace(base, '#', (i - 1)::text), specification -> 'retry');
    end if;
    -- Most jobs of a call ask for the same limits, and to work them out takes longer than all other checks.
    if allowed is null or asked is distinct from last_asked then
      allowed := effective_limits(replace(base, '#', (i - 1)::text), asked, document);
      last_asked := asked;
    end if;
    limits := limits || allowed;
  end loop;
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

-- What makes two requests under one key the same: not the times, which a retry cannot repeat.
create function request_digest(queue text, priority int, specification jsonb) returns bytea
language sql stable security definer set search_path = cordon, pg_temp as $$
  select sha256(convert_to(concat_ws(E'\n', queue, priority, specification), 'UTF8'))
$$;

-- Whether the key is this job's from now on; false when it stands for another. Whoever comes second waits here until the
-- first has committed or has not.
create function take_key(me principal, within text, key text, payload bytea, job uuid, expires interval) returns boolean
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  insert into idempotency as i (tenant, scope, key, payload, job, expires_at)
  values (me.tenant, within, take_key.key, take_key.payload, take_key.job, clock_timestamp() + take_key.expires)
  on conflict (tenant, scope, key) do update
    set payload = excluded.payload, job = excluded.job, expires_at = excluded.expires_at
    where i.expires_at <= clock_timestamp();
  return found;
end
$$;

-- One job. With a key, the same request again (queue, specification and priority; not the times, which a retry cannot
-- repeat) returns the job of the first, and another request under that key is refused. `key_scope` is `tenant` or
-- `queue`; after `key_expires` the key is as if it had never been used.
create function enqueue_job(
  queue text, specification jsonb, key text, run_at timestamptz, priority int, start_before timestamptz default null,
  key_scope text default null, key_expires interval default null, lane text default null, after uuid[] default null,
  on_failure text default null, out job uuid, out created boolean)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant principal := producer();
  payload bytea;
  within text;
  first record;
begin
  if octet_length(enqueue_job.key) not between 1 and 255 then
    perform refuse('22023', 'key', format('%s bytes; 1 to 255 are allowed', octet_length(enqueue_job.key)));
  elsif enqueue_job.key is null and (enqueue_job.key_scope is not null or enqueue_job.key_expires is not null) then
    perform refuse('22023', 'key', 'is missing; key_scope and key_expires are about a key');
  elsif enqueue_job.key_scope not in ('tenant', 'queue') then
    perform refuse('22023', 'key_scope', shown(enqueue_job.key_scope) || ' is unknown; use tenant or queue');
  elsif enqueue_job.key_expires <= interval '0' or enqueue_job.key_expires > interval '100 years' then
    perform refuse('22023', 'key_expires', format('%s is not within 100 years from now', enqueue_job.key_expires));
  end if;
  enqueue_job.job := uuid7();
  created := true;
  if enqueue_job.key is not null then
    perform check_shape('specification', enqueue_job.specification);
    payload := request_digest(enqueue_job.queue, enqueue_job.priority, enqueue_job.specification);
    -- A queue's name is never empty, so no queue's keys are the tenant's.
    within := case when enqueue_job.key_scope = 'queue' then enqueue_job.queue else '' end;
    created := take_key(me, within, enqueue_job.key, payload, enqueue_job.job, enqueue_job.key_expires);
  end if;
  if created then
    perform enqueue_jobs(me, '', enqueue_job.queue, array[enqueue_job.specification], enqueue_job.key,
      enqueue_job.run_at, enqueue_job.priority, enqueue_job.start_before, enqueue_job.lane, enqueue_job.after,
      enqueue_job.on_failure, enqueue_job.job, null);
    return;
  end if;
  select i.payload, i.job into strict first from idempotency i
  where i.tenant = me.tenant and i.scope = within and i.key = enqueue_job.key;
  if first.payload <> payload then
    perform refuse('22023', 'key', format('%s was used for another request, job %s', shown(enqueue_job.key), first.job),
      'use a new key for a new request');
  end if;
  enqueue_job.job := first.job;
end
$$;

create function enqueue(
  queue text, specification jsonb, key text default null, run_at timestamptz default null, priority int default 4,
  start_before timestamptz default null, key_scope text default null, key_expires interval default null,
  lane text default null, after uuid[] default null, on_failure text default null
) returns uuid
language sql volatile security definer set search_path = cordon, pg_temp as $$
  select job from enqueue_job(queue, specification, key, run_at, priority, start_before, key_scope, key_expires, lane,
    after, on_failure)
$$;

drop function enqueue_many(text, jsonb[], int);

-- Several jobs, all or none, in this order. An empty array is no job and no error. One of rows and columns would come apart
-- into a list nobody wrote.
create function enqueue_many(
  queue text, specifications jsonb[], priority int default 4, run_at timestamptz default null,
  start_before timestamptz default null, lane text default null, after uuid[] default null,
  on_failure text default null
) returns uuid[]
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
begin
  if specifications is null or array_ndims(specifications) > 1 then
    perform refuse('22023', 'specifications', 'must be an array of one dimension, one element a job');
  end if;
  return enqueue_jobs(producer(), 'specifications[#].', queue, specifications, null, run_at, priority, start_before,
    lane, after, on_failure, null, null);
end
$$;

grant execute on function add_principal(text, text, text[], int) to cordon_operator;
grant execute on function enqueue(text, jsonb, text, timestamptz, int, timestamptz, text, interval, text, uuid[], text),
  enqueue_job(text, jsonb, text, timestamptz, int, timestamptz, text, interval, text, uuid[], text),
  enqueue_many(text, jsonb[], int, timestamptz, timestamptz, text, uuid[], text) to cordon_producer;

do $$
declare
  setting text;
begin
  foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
    execute format('alter function open_jobs(principal, uuid[], text) set %I = off', setting);
  end loop;
end
$$;
