-- Second chances and last ones. A specification may have one member more than 0007 says:
--
--   "retry": {"attempts": 3, "on": ["failed", "timed_out"], "backoff": "exponential",
--             "delay": "10s", "longest": "1h", "jitter": 0.2}
--
-- `attempts` counts all of them, the first included. `on` names the outcomes that are tried again; without it those of
-- retriable_outcomes(). `backoff` is `exponential` (delay, twice that, four times, …, at most `longest`), `fixed`, or a
-- list of durations, whose last one repeats. `jitter` is the share of each delay that is left to chance, so that what
-- failed together does not come back together. A job without `retry` is tried once; an attempt that is lost is tried
-- again all the same, as often as the policy's lease.attempts says, because nobody knows that it failed.
--
-- A job that is over and has not succeeded lies among the dead letters until an operator retries it, as a new job that
-- names the old one, or discards it.
--
-- A breaker for each code digest keeps retries of a program that always fails from taking the workers of all others:
-- while it is open they wait. What is new is never held up.
--
-- An idempotency key is of its tenant or of one queue, and stands for ever or as long as its caller says. A job with
-- `start_before` is not begun after that moment.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

alter table job
  add column retry jsonb,
  add column start_before timestamptz,
  add column retry_of uuid;

alter table idempotency
  add column scope text not null default '',
  add column expires_at timestamptz,
  drop constraint idempotency_pkey,
  add primary key (tenant, scope, key);
create index idempotency_expires on idempotency (expires_at) where expires_at is not null;

-- One row a job that ended otherwise than by success or cancellation, until an operator has looked at it.
create table dead_letter (
  job uuid primary key,
  tenant text not null,
  queue smallint not null,
  outcome text not null,
  at timestamptz not null default clock_timestamp()
);

-- One row a program of which an attempt failed that is to be tried again, until one of its attempts succeeds.
create table breaker (
  tenant text not null,
  code text not null,
  failures int not null,
  failed_at timestamptz not null default clock_timestamp(),
  -- How often it opened in a row.
  trips int not null default 0,
  open_until timestamptz,
  primary key (tenant, code)
);

-- Jobs that may be waiting when their time to start is over. A row stays until then, whatever becomes of the job.
create table deadline (
  start_before timestamptz not null,
  job uuid not null,
  primary key (start_before, job)
);

create function retriable_outcomes() returns text[]
language sql immutable security definer set search_path = cordon, pg_temp as $$
  select array['failed', 'signaled', 'timed_out', 'out_of_memory', 'output_limit', 'lost', 'refused']
$$;

create function read_delay(field text, value jsonb) returns bigint
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  most constant bigint := 30::bigint * 86400000;
  amount bigint;
begin
  amount := case when jsonb_typeof(value) = 'string' then parse_duration(value #>> '{}') end;
  if amount is null then
    perform refuse('22023', field, shown(value) || ' is no duration; write 5m, 30s or 500ms');
  elsif amount > most then
    perform refuse('22023', field, shown(value) || ' is more than 30d');
  end if;
  return amount;
end
$$;

-- The normalised form of a specification's `retry`, which `complete` reads; null where there is none.
create function read_retry(base text, retry jsonb) returns jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  most constant int := 100;
  field constant text := base || 'retry';
  backoff constant jsonb := coalesce(retry -> 'backoff', '"exponential"');
  tries constant numeric := case when jsonb_typeof(retry -> 'attempts') = 'number' then (retry ->> 'attempts')::numeric end;
  jitter numeric := 0.2;
  delays bigint[];
  longest bigint;
  delay jsonb;
  i bigint;
begin
  if retry is null or jsonb_typeof(retry) = 'null' then
    return null;
  end if;
  perform check_members(field, retry, array['attempts'], array['on', 'backoff', 'delay', 'longest', 'jitter']);
  if tries is null or tries not between 1 and most or tries <> trunc(tries) then
    perform refuse('22023', field || '.attempts', format('%s is not 1 to %s', shown(retry -> 'attempts'), most));
  end if;
  if retry ? 'on' then
    perform check_words(field || '.on', retry -> 'on', retriable_outcomes());
  end if;
  if retry ? 'jitter' then
    jitter := case when jsonb_typeof(retry -> 'jitter') = 'number' then (retry ->> 'jitter')::numeric end;
    if jitter is null or jitter not between 0 and 1 then
      perform refuse('22023', field || '.jitter', shown(retry -> 'jitter') || ' is not 0 to 1');
    end if;
  end if;
  if jsonb_typeof(backoff) = 'array' then
    if jsonb_array_length(backoff) not between 1 and most then
      perform refuse('22023', field || '.backoff',
        format('%s durations; 1 to %s are allowed', jsonb_array_length(backoff), most));
    elsif retry ? 'delay' or retry ? 'longest' then
      perform refuse('22023', field, 'delay and longest are for exponential and fixed; the list says every delay');
    end if;
    for delay, i in select value, ordinality - 1 from jsonb_array_elements(backoff) with ordinality loop
      delays := delays || read_delay(format('%s.backoff[%s]', field, i), delay);
    end loop;
  elsif backoff in ('"exponential"', '"fixed"') then
    delays := array[read_delay(field || '.delay', coalesce(retry -> 'delay', '"10s"'))];
    if retry ? 'longest' and backoff = '"fixed"' then
      perform refuse('22023', field || '.longest', 'is for exponential; fixed has one delay');
    end if;
    longest := case when backoff = '"exponential"'
      then greatest(read_delay(field || '.longest', coalesce(retry -> 'longest', '"1h"')), delays[1]) end;
  else
    perform refuse('22023', field || '.backoff',
      shown(backoff) || ' is unknown; use exponential, fixed or a list of durations');
  end if;
  return jsonb_build_object('attempts', tries::int, 'on', coalesce(retry -> 'on', to_jsonb(retriable_outcomes())),
    'delays_ms', delays, 'longest_ms', longest, 'jitter', jitter);
end
$$;

-- How long a job waits after so many attempts.
create function retry_delay(retry jsonb, attempt int) returns interval
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
declare
  delays constant jsonb := retry -> 'delays_ms';
  longest constant float8 := (retry ->> 'longest_ms')::float8;
  jitter constant float8 := (retry ->> 'jitter')::float8;
  delay float8;
begin
  if longest is null then
    delay := (delays ->> least(attempt - 1, jsonb_array_length(delays) - 1))::float8;
  else
    -- 2 ^ 40 ms are 34 years; the exponent is bounded so that no attempt's number overflows.
    delay := least(longest, (delays ->> 0)::float8 * 2 ^ least(attempt - 1, 40));
  end if;
  return make_interval(secs => delay / 1000 * (1 - jitter * random()));
end
$$;

-- Whether nothing follows an attempt with this outcome.
create function ends_job(outcome text, attempt int, cancel boolean, max_attempts int, retry jsonb) returns boolean
language sql immutable security definer set search_path = cordon, pg_temp as $$
  select case
    when outcome in ('succeeded', 'cancelled') or cancel then true
    when outcome = 'lost' then attempt >= max_attempts
    else retry is null or not retry -> 'on' ? outcome or attempt >= (retry ->> 'attempts')::int end
$$;

-- What so many more failures make of a breaker: it opens at 20 without a success and without a quiet minute in between,
-- and again at the first failure after it was open.
create function breaker_step(b breaker, more int, out failures int, out opens boolean)
language sql volatile security definer set search_path = cordon, pg_temp as $$
  select f.failures, f.failures >= 20 and coalesce(b.open_until <= clock_timestamp(), true)
  from (select case when b.open_until is null and b.failed_at < clock_timestamp() - interval '1 minute' then more
    else b.failures + more end as failures) f
$$;

-- How long it stays open: 15 seconds, twice that each time, at most an hour.
create function breaker_pause(trips int) returns interval
language sql immutable security definer set search_path = cordon, pg_temp as $$
  select least(interval '1 hour', interval '15 seconds' * 2 ^ least(trips, 20))
$$;

-- Wherever a job's last attempt is recorded, and by whichever function.
create function keep_dead_letter() returns trigger
language plpgsql security definer set search_path = cordon, pg_temp as $$
begin
  insert into dead_letter (job, tenant, queue, outcome) values (new.job, new.tenant, new.queue, new.outcome)
  on conflict do nothing;
  return null;
end
$$;
create trigger dead_letter after insert on attempt for each row
  when (new.final and new.outcome not in ('succeeded', 'cancelled')) execute function keep_dead_letter();

-- As in 0007, and `retry`, which read_retry judges.
create or replace function check_specification(base text, specification jsonb, tenant text, document jsonb) returns jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  members constant text[] := array['runtime', 'argv', 'code', 'args', 'env', 'stdin', 'inputs', 'params', 'limits',
    'labels', 'grants', 'retry'];
  runtimes constant text[] := array['exec', 'python3', 'bash'];
  asked jsonb;
  stranger text;
  runtime text;
begin
  perform check_shape(base || 'specification', specification);
  select k.name into stranger from jsonb_object_keys(specification) k (name) where k.name <> all (members)
  order by 1 limit 1;
  if found then
    perform refuse('22023', member(base, stranger), 'unknown member',
      'the members are ' || array_to_string(members, ', '));
  end if;
  -- A member that is null was not given; params may be any value.
  select jsonb_object_agg(key, value) into asked from jsonb_each(specification)
  where jsonb_typeof(value) <> 'null';

  runtime := case when jsonb_typeof(asked -> 'runtime') = 'string' then asked ->> 'runtime' end;
  if asked -> 'runtime' is null then
    perform refuse('22023', base || 'runtime', 'is missing; use exec, python3 or bash');
  elsif runtime is null or runtime <> all (runtimes) then
    perform refuse('22023', base || 'runtime', shown(asked -> 'runtime') || ' is unknown; use exec, python3 or bash');
  elsif not document -> 'runtimes' ? runtime then
    perform refuse('42501', base || 'runtime', shown(runtime) || ' is not allowed by policy');
  end if;
  if asked ? 'argv' then perform check_texts(base || 'argv', asked -> 'argv', 0); end if;
  if asked ? 'args' then perform check_texts(base || 'args', asked -> 'args', 0); end if;
  perform check_program(base, asked, tenant);
  if asked ? 'env' then perform check_env(base || 'env', asked -> 'env'); end if;
  if asked ? 'stdin' and jsonb_typeof(asked -> 'stdin') <> 'string' then
    perform refuse('22023', base || 'stdin', shown(asked -> 'stdin') || ' is no string');
  end if;
  if asked ? 'inputs' then perform check_inputs(base || 'inputs', asked -> 'inputs', tenant); end if;
  if asked ? 'labels' then perform check_labels(base || 'labels', asked -> 'labels'); end if;
  if asked ? 'grants' then
    if jsonb_typeof(asked -> 'grants') <> 'array' then
      perform refuse('22023', base || 'grants', 'must be an array');
    elsif jsonb_array_length(asked -> 'grants') > 0 then
      perform refuse('42501', base || 'grants', shown(asked -> 'grants' -> 0) || ' is not offered; nothing is yet',
        'leave grants out or write []');
    end if;
  end if;
  return effective_limits(base, asked -> 'limits', document);
end
$$;

-- What operators do with dead letters. Retried as a new job of the same tenant, queue, specification and priority, judged
-- by the policy now in force; who asked is the operator, and the new job names the old one. Producers retry their own.
create function retry(job uuid) returns uuid
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  old constant job := visible_job(retry.job, pg_has_role(session_user, 'cordon_operator', 'member'));
  me principal;
  ids uuid[];
begin
  delete from dead_letter d where d.job = old.id;
  if not found then
    perform refuse('22023', 'job', format('%s is no dead letter', old.id),
      'cordon dead list shows them; one that was retried or discarded is none any more');
  end if;
  select * into me from principal p where p.role = session_user;
  me.role := session_user;
  me.tenant := old.tenant;
  ids := enqueue_jobs(me, '', (select q.name from queue q where q.id = old.queue), array[old.specification], null, null,
    old.priority, null, (select l.key from lane l where l.id = old.lane), null, null, null, old.id);
  insert into audit (what, job, detail) values ('retried', old.id, jsonb_build_object('as', ids[1]));
  return ids[1];
end
$$;

create function discard(job uuid) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  old constant job := visible_job(discard.job, pg_has_role(session_user, 'cordon_operator', 'member'));
begin
  delete from dead_letter d where d.job = old.id;
  if not found then
    perform refuse('22023', 'job', format('%s is no dead letter', old.id),
      'cordon dead list shows them; one that was retried or discarded is none any more');
  end if;
  insert into audit (what, job) values ('discarded', old.id);
end
$$;

-- The newest dead letters this session may see.
create function dead_letters(queue text default null, most int default 100) returns setof jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  everything constant boolean := sees_all();
  mine constant text := (select p.tenant from principal p where p.role = session_user);
  wanted constant smallint := (select q.id from queue q where q.name = dead_letters.queue);
begin
  if not coalesce(most between 1 and 1000, false) then
    perform refuse('22023', 'limit', format('%s is not 1 to 1000', coalesce(most::text, 'null')));
  elsif dead_letters.queue is not null and wanted is null then
    if everything then
      perform refuse('42501', 'queue', shown(dead_letters.queue) || ' is unknown');
    end if;
    return;
  end if;
  return query
    select jsonb_build_object('job', d.job, 'tenant', d.tenant,
      'queue', (select q.name from queue q where q.id = d.queue), 'outcome', d.outcome, 'at', iso(d.at),
      'attempts', a.attempt, 'exit_code', a.exit_code, 'signal', a.signal, 'reason', a.reason, 'code', a.code,
      'enqueued_by', j.enqueued_by, 'labels', coalesce(nullif(j.specification -> 'labels', 'null'), '{}'))
    from dead_letter d
    cross join lateral (select * from job where job.id = d.job offset 0) j
    cross join lateral (select * from attempt x where x.job = d.job and x.final limit 1) a
    where (everything or d.tenant = mine) and (wanted is null or d.queue = wanted)
    order by d.job desc limit most;
end
$$;

-- Programs whose attempts have failed and none has succeeded since.
create function breakers() returns setof jsonb
language sql stable security definer set search_path = cordon, pg_temp as $$
  select jsonb_build_object('tenant', b.tenant, 'code', b.code, 'failures', b.failures, 'failed_at', iso(b.failed_at),
    'trips', b.trips, 'open_until', iso(b.open_until), 'open', coalesce(b.open_until > clock_timestamp(), false))
  from breaker b order by b.failed_at desc
$$;

-- An operator says that a program may be tried again at once: waiting retries keep their times, later ones are not held.
create function reset_breaker(tenant text, code text) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
begin
  delete from breaker b where b.tenant = reset_breaker.tenant and b.code = reset_breaker.code;
  if not found then
    perform refuse('22023', 'code', shown(reset_breaker.code) || ' of this tenant has no breaker');
  end if;
  insert into audit (what, detail) values ('breaker_reset',
    jsonb_build_object('tenant', reset_breaker.tenant, 'code', reset_breaker.code));
end
$$;

grant execute on function retry(uuid), discard(uuid), dead_letters(text, int) to cordon_producer, cordon_operator;
grant execute on function dead_letters(text, int) to cordon_auditor;
grant execute on function breakers() to cordon_operator, cordon_auditor;
grant execute on function reset_breaker(text, text) to cordon_operator;

-- CREATE OR REPLACE forgets what 0012 set.
do $$
declare
  pinned text;
  setting text;
begin
  foreach pinned in array array['dead_letters(text, int)'] loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
  end loop;
end
$$;
