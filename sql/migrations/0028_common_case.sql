-- The common case first: what succeeded, what is claimed in time, and nothing that is due. The statements that also know the
-- other cases have a dozen parts, and the server sets each of them up for every call, needed or not; for one job that took longer than
-- the work.
--
-- A claim need not be on disk before the worker hears of it. What makes an attempt is its start, which is; and since the log is
-- written in order, a start that is on disk has its claim there before it. A claim that a crash takes back leaves the job
-- where it was, and a start under it finds no lease. It saves whoever waits for a job one of two waits for the disk, or for a
-- replica that commits are confirmed by. A job that the claim finds too late to start is too late the next time as well.
--
-- The sequence may be taken back with it, and give a number again. A token's lower bits are therefore by chance: nobody can
-- hold one, from before the crash, that a later claim of the same job by the same worker is given.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- As in 0017.
create or replace function promote(most int) returns int
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
declare
  moved smallint[];
begin
  if not exists (select from scheduled where run_at <= clock_timestamp()) then
    return 0;
  end if;
  with due as (
    delete from scheduled where ctid = any (array(
      select ctid from scheduled where run_at <= clock_timestamp() order by run_at limit most for update skip locked))
    returning *
  ), placed as (
    insert into ready (queue, lane, rank, job, attempt)
    select queue, lane, rank, job, attempt from due returning queue
  )
  select array_agg(queue) into moved from placed;
  if moved is null then
    return 0;
  end if;
  perform wake(q) from (select distinct q from unnest(moved) q) d;
  return cardinality(moved);
end
$$;

-- As in 0019. Leases rows of `ready` that the caller has chosen and nobody else can take. One whose `start_before` has passed
-- is over instead, as `expired`.
create or replace function lease_rows(me worker, queue_name text, chosen tid[]) returns table (
  job uuid, attempt int, token bigint, tenant text, queue text, enqueued_by name, specification jsonb, limits jsonb,
  policy text, document text, params text, lane int, rank bigint)
language plpgsql volatile security definer set search_path = cordon, pg_temp
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  leased int;
  ids uuid[];
  attempts smallint[];
  queue_id smallint;
  first uuid;
  last uuid;
begin
  perform set_config('synchronous_commit', 'off', true);
  select array_agg(r.job order by r.job), array_agg(r.attempt order by r.job), min(r.queue)
  into ids, attempts, queue_id from ready r where r.ctid = any (chosen);
  -- So that the statement sets up the partitions with these jobs and not all there are.
  first := ids[1];
  last := ids[cardinality(ids)];
  return query with gone as (
    delete from ready r where r.ctid = any (chosen) returning r.queue, r.lane, r.rank, r.attempt + 1 as attempt, r.job
  ), taken as (
    select g.queue, g.lane, g.rank, g.attempt, j.id, j.tenant, j.enqueued_by, j.specification, j.limits, j.policy,
      j.margin_ms, nextval('fencing_token') << 20 | (random() * 1048575)::int as token
    from gone g cross join lateral (
      select * from job where job.id = g.job and job.id between first and last offset 0) j
    where j.start_before is null or j.start_before > clock_timestamp()
  ), leased as (
    insert into lease (job, token, worker, attempt, queue, lane, rank, tenant, deadline_at)
    select t.id, t.token, me.id, t.attempt, t.queue, t.lane, t.rank, t.tenant,
      clock_timestamp() + make_interval(secs => ((t.limits ->> 'wall_ms')::bigint + (t.limits ->> 'grace_ms')::bigint
        + t.margin_ms) / 1000.0)
    from taken t
  )
  select t.id, t.attempt::int, t.token, t.tenant, queue_name, t.enqueued_by, t.specification, t.limits, t.policy,
    -- Once for each policy: the reader keeps it.
    case when row_number() over (partition by t.policy order by t.lane, t.rank, t.id) = 1
      then (select p.document from policy p where p.digest = t.policy) end,
    nullif(t.specification -> 'params', 'null')::text, t.lane, t.rank
  from taken t order by t.lane, t.rank, t.id;
  get diagnostics leased = row_count;
  if leased < cardinality(ids) then
    insert into attempt (job, attempt, final, via, tenant, queue, outcome, reason)
    select j.id, g.attempt + 1, true, 'expire', j.tenant, queue_id, 'expired', 'not started before its time was over'
    from unnest(ids, attempts) g (job, attempt)
    cross join lateral (select * from job where job.id = g.job offset 0) j
    where not exists (select from lease l where l.job = g.job);
  end if;
end
$$;

-- As in 0019, without a lock before the update: an update waits for a row just as well.
create or replace function start(worker bigint, jobs uuid[], tokens bigint[], attributions text[]) returns setof uuid
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(start.worker);
  known jsonb[];
  strangers jsonb[];
  begun uuid[];
begin
  -- Parsed one by one: a cast of the whole array would write it out as a text once more.
  select array_agg(g.a), array_agg(g.a) filter (where jsonb_typeof(g.a) <> 'object') into known, strangers
  from (select a::jsonb from unnest(attributions) a offset 0) g;
  if strangers is not null then
    perform refuse('22023', 'attribution', shown(strangers[1]) || ' is no object');
  end if;
  with begun as (
    update lease l set started_at = clock_timestamp(), deadline_at = clock_timestamp() + (l.deadline_at - l.claimed_at),
      attribution = g.known
    from unnest(jobs, tokens, known) g (job, token, known)
    where l.job = g.job and l.token = g.token and l.worker is not distinct from me.id and not l.cancel and l.started_at is null
    returning l.job, l.attempt, l.token
  ), noted as (
    insert into audit (what, job, attempt, worker, detail)
    select 'started', b.job, b.attempt, me.id, jsonb_build_object('token', b.token, 'host', me.host) from begun b
  )
  select array_agg(b.job) into begun from begun b;
  return query select b from unnest(begun) b;
  -- What had begun already is asked for again by who did not hear the answer.
  if begun is null or cardinality(begun) < cardinality(jobs) then
    return query
      select l.job from unnest(jobs, tokens) g (job, token) join lease l on l.job = g.job and l.token = g.token
      where l.worker is not distinct from me.id and not l.cancel and l.started_at is not null and l.job <> all (coalesce(begun, '{}'))
      for update of l;
  end if;
end
$$;

-- What is left of a completion: what did not succeed, and what is no longer held. An attempt whose outcome the job's `retry`
-- names goes back to wait for its delay, or as long as the breaker of its program is open.
create function complete_others(me worker, jobs uuid[], tokens bigint[], reports jsonb[], results text[])
returns table (job uuid, recorded boolean)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  -- The same completion may be asked again while the first one still commits. Waiting for its row here, in a statement
  -- of its own, lets the next statement see what it wrote; one statement that waited would still look at the past and
  -- call a recorded attempt late. (A success has waited above.)
  perform from lease l join unnest(jobs, tokens) g (job, token) on l.job = g.job and l.token = g.token
  where l.worker is not distinct from me.id order by l.job for update of l;
  return query
    with given as (
      select g.job, g.token, g.report, g.result, parse_result(g.result) as parsed
      from unnest(jobs, tokens, reports, results) g (job, token, report, result)
    ), gone as (
      delete from lease l using given g
      where l.job = g.job and l.token = g.token and l.worker is not distinct from me.id and g.report ->> 'outcome' <> 'succeeded'
      returning l.*
    ), ended as (
      select l.*, g.report, g.result, g.parsed, j.retry,
        ends_job(g.report ->> 'outcome', l.attempt, l.cancel, j.max_attempts, j.retry) as final
      from gone l join given g on g.job = l.job and g.token = l.token
      cross join lateral (select * from job where job.id = l.job offset 0) j
    ), written as (
      insert into attempt (job, attempt, final, via, tenant, queue, outcome, exit_code, signal, reason, notes, result,
        stdout, stderr, usage, artifacts, quarantined, published, code, inputs, isolation, token, worker, worker_name,
        worker_role, host, build, started_at)
      select e.job, e.attempt, e.final, 'complete', e.tenant, e.queue, e.report ->> 'outcome',
        (e.report ->> 'exit_code')::int, (e.report ->> 'signal')::int,
        case when e.result is not null and e.parsed is null
          then concat_ws('; ', e.report ->> 'reason', 'result_invalid') else e.report ->> 'reason' end,
        e.report -> 'notes', e.parsed, e.report -> 'stdout', e.report -> 'stderr', nullif(e.report -> 'usage', 'null'),
        e.report -> 'artifacts', e.report -> 'quarantined', e.report ->> 'published', e.report ->> 'code',
        e.report -> 'inputs', nullif(e.report -> 'isolation', 'null'), e.token, me.id, me.name, me.role, me.host,
        me.build, e.started_at
      from ended e
    ), again as (
      insert into ready (queue, lane, rank, job, attempt)
      select e.queue, e.lane, e.rank, e.job, e.attempt from ended e
      where not e.final and e.report ->> 'outcome' = 'lost'
    ), later as (
      insert into scheduled (run_at, job, queue, lane, rank, attempt)
      select greatest(clock_timestamp(), b.open_until) + retry_delay(e.retry, e.attempt), e.job, e.queue, e.lane,
        e.rank, e.attempt
      from ended e left join breaker b on b.tenant = e.tenant and b.code = e.report ->> 'code'
      where not e.final and e.report ->> 'outcome' <> 'lost'
    ), failing as (
      -- In one order, so that two completions do not wait for each other.
      insert into breaker as b (tenant, code, failures)
      select e.tenant, e.report ->> 'code', count(*) from ended e
      where not e.final and e.report ->> 'outcome' <> 'lost' and e.report ->> 'code' is not null
      group by 1, 2 order by 1, 2
      on conflict (tenant, code) do update set (failures, failed_at, trips, open_until) = (
        select n.failures, clock_timestamp(), b.trips + n.opens::int,
          case when n.opens then clock_timestamp() + breaker_pause(b.trips) else b.open_until end
        from breaker_step(b, excluded.failures) n)
    ), late as (
      select g.job, g.token, exists (
        select from attempt a where a.job = g.job and a.token = g.token and a.worker = me.id and a.via = 'complete'
      ) as repeated, g.report
      from given g where not exists (select from gone l where l.job = g.job and l.token = g.token)
    ), noted as (
      insert into audit (what, job, attempt, worker, detail)
      select 'late', l.job, (select a.attempt from attempt a where a.job = l.job and a.token = l.token), me.id,
        jsonb_build_object('token', l.token, 'outcome', l.report ->> 'outcome', 'host', me.host)
      from late l where not l.repeated
    )
    select e.job, true from ended e union all select l.job, l.repeated from late l;
  if exists (select from unnest(reports) r where r ->> 'outcome' = 'lost') then
    perform wake(q) from unnest(me.queues) q;
  end if;
end
$$;

-- Records finished attempts, as in 0021. Only what did not succeed pays for what has to be known of it.
create or replace function complete(worker bigint, jobs uuid[], tokens bigint[], reports text[], results text[])
returns table (job uuid, recorded boolean)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(complete.worker);
  parsed jsonb[];
  strangers jsonb[];
  done bigint[];
  tenants text[];
  codes text[];
begin
  -- Parsed once, and one by one, as in `start`: a report is read in many places below.
  select array_agg(g.r), array_agg(g.r) filter (
    where coalesce(g.r ->> 'outcome', '') not in ('succeeded', 'failed', 'signaled', 'timed_out', 'out_of_memory',
      'output_limit', 'cancelled', 'lost', 'refused'))
  into parsed, strangers
  from (select r::jsonb from unnest(reports) r offset 0) g;
  if strangers is not null then
    perform refuse('22023', 'report.outcome', shown(strangers[1] ->> 'outcome') || ' is no outcome');
  end if;
  -- What succeeded and is still held: nearly always everything.
  with gone as (
    delete from lease l using unnest(jobs, tokens, parsed, results) g (job, token, report, result)
    where l.job = g.job and l.token = g.token and l.worker is not distinct from me.id and g.report ->> 'outcome' = 'succeeded'
    returning l.job, l.attempt, l.tenant, l.queue, l.token, l.started_at, g.report, g.result,
      parse_result(g.result) as parsed_result
  ), written as (
    insert into attempt (job, attempt, final, via, tenant, queue, outcome, exit_code, reason, notes, result, stdout,
      stderr, usage, artifacts, quarantined, published, code, inputs, isolation, token, worker, worker_name,
      worker_role, host, build, started_at)
    select e.job, e.attempt, true, 'complete', e.tenant, e.queue, 'succeeded', (e.report ->> 'exit_code')::int,
      case when e.result is not null and e.parsed_result is null
        then concat_ws('; ', e.report ->> 'reason', 'result_invalid') else e.report ->> 'reason' end,
      e.report -> 'notes', e.parsed_result, e.report -> 'stdout', e.report -> 'stderr', nullif(e.report -> 'usage', 'null'),
      e.report -> 'artifacts', e.report -> 'quarantined', e.report ->> 'published', e.report ->> 'code',
      e.report -> 'inputs', nullif(e.report -> 'isolation', 'null'), e.token, me.id, me.name, me.role, me.host,
      me.build, e.started_at
    from gone e
  )
  select array_agg(e.token), array_agg(e.tenant), array_agg(e.report ->> 'code') into done, tenants, codes
  from gone e;
  if exists (select from breaker) then
    delete from breaker b using unnest(tenants, codes) e (tenant, code) where b.tenant = e.tenant and b.code = e.code;
  end if;
  if cardinality(done) = cardinality(jobs) then
    return query select g, true from unnest(jobs) g;
    return;
  end if;
  return query select g.job, true from unnest(jobs, tokens) g (job, token) where g.token = any (done);
  return query
    select o.job, o.recorded from (
      select array_agg(g.job) as jobs, array_agg(g.token) as tokens, array_agg(g.report) as reports,
        array_agg(g.result) as results
      from unnest(jobs, tokens, parsed, results) g (job, token, report, result)
      where done is null or g.token <> all (done)) g
    cross join lateral complete_others(me, g.jobs, g.tokens, g.reports, g.results) o;
end
$$;

do $$
declare
  pinned text;
  setting text;
begin
  foreach pinned in array array['complete(bigint, uuid[], bigint[], text[], text[])',
    'complete_others(worker, uuid[], bigint[], jsonb[], text[])', 'lease_rows(worker, text, tid[])',
    'promote(int)', 'start(bigint, uuid[], bigint[], text[])']
  loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
    execute format('alter function %s set plan_cache_mode = force_generic_plan', pinned);
  end loop;
  -- What names its leases finds each by its key, however few there were when it was planned; nor by the worker's index, which
  -- `is not distinct from` cannot use.
  alter function lease_rows(worker, text, tid[]) set enable_hashjoin = off;
  alter function start(bigint, uuid[], bigint[], text[]) set enable_hashjoin = off;
  alter function complete(bigint, uuid[], bigint[], text[], text[]) set enable_hashjoin = off;
end
$$;
