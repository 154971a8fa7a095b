-- How attempts end and jobs wait again, with what 0017 and 0018 brought: a job that comes back stands in its lane under the
-- rank it had. What 0020 says of blocked jobs holds here as well.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- Records finished attempts, as in 0010; and an attempt whose outcome the job's `retry` names goes back to wait for its delay,
-- or as long as the breaker of its program is open. Only what did not succeed pays for any of it.
create or replace function complete(worker bigint, jobs uuid[], tokens bigint[], reports text[], results text[])
returns table (job uuid, recorded boolean)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(complete.worker);
  -- Parsed once: a report is read in many places below.
  parsed_reports constant jsonb[] := reports::jsonb[];
  stranger text;
begin
  select r ->> 'outcome' into stranger from unnest(parsed_reports) r
  where coalesce(r ->> 'outcome', '') not in ('succeeded', 'failed', 'signaled', 'timed_out', 'out_of_memory',
    'output_limit', 'cancelled', 'lost', 'refused') limit 1;
  if found then
    perform refuse('22023', 'report.outcome', shown(stranger) || ' is no outcome');
  end if;
  -- The same completion may be asked again while the first one still commits. Waiting for its row here, in a statement
  -- of its own, lets the next statement see what it wrote; one statement that waited would still look at the past and
  -- call a recorded attempt late.
  perform from lease l join unnest(jobs, tokens) g (job, token) on l.job = g.job and l.token = g.token
  where l.worker = me.id order by l.job for update of l;
  return query
    with given as (
      select g.job, g.token, g.report, g.result, parse_result(g.result) as parsed
      from unnest(jobs, tokens, parsed_reports, results) g (job, token, report, result)
    ), gone as (
      delete from lease l using given g where l.job = g.job and l.token = g.token and l.worker = me.id returning l.*
    ), ended as (
      select l.*, g.report, g.result, g.parsed, j.retry,
        case when g.report ->> 'outcome' = 'succeeded' then true
          else ends_job(g.report ->> 'outcome', l.attempt, l.cancel, j.max_attempts, j.retry) end as final
      from gone l join given g on g.job = l.job and g.token = l.token
      left join lateral (
        select * from job where job.id = l.job and g.report ->> 'outcome' <> 'succeeded' offset 0) j on true
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
    ), closed as (
      delete from breaker b using ended e
      where b.tenant = e.tenant and b.code = e.report ->> 'code' and e.report ->> 'outcome' = 'succeeded'
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
  if exists (select from unnest(parsed_reports) r where r ->> 'outcome' = 'lost') then
    perform wake(q) from unnest(me.queues) q;
  end if;
end
$$;

-- As in 0010.
create or replace function give_back(me worker, jobs uuid[], tokens bigint[], started boolean, reason text) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  queues smallint[];
  queue_id smallint;
begin
  with given as (
    select * from unnest(jobs, tokens) g (job, token)
  ), gone as (
    delete from lease l using given g where l.job = g.job and l.token = g.token and l.worker = me.id
    returning l.*, l.started_at is not null or give_back.started as begun
  ), ended as (
    select g.*, g.cancel or (g.begun and g.attempt >= j.max_attempts) as final
    from gone g cross join lateral (select * from job where job.id = g.job offset 0) j
  ), written as (
    insert into attempt (job, attempt, final, via, tenant, queue, outcome, reason, code, inputs, isolation, token,
      worker, worker_name, worker_role, host, build, started_at)
    select e.job, e.attempt, e.final, 'release', e.tenant, e.queue,
      case when e.cancel then 'cancelled' else 'lost' end, give_back.reason, e.attribution ->> 'code',
      nullif(e.attribution -> 'inputs', 'null'), nullif(e.attribution -> 'isolation', 'null'), e.token, me.id, me.name,
      me.role, me.host, me.build, e.started_at
    from ended e where e.begun or e.cancel
  ), again as (
    insert into ready (queue, lane, rank, job, attempt)
    select e.queue, e.lane, e.rank, e.job, case when e.begun then e.attempt else e.attempt - 1 end
    from ended e where not e.final returning queue
  ), noted as (
    insert into audit (what, job, attempt, worker, detail)
    select case when l.job is null then 'late' else 'released' end, g.job,
      coalesce(l.attempt, (select a.attempt from attempt a where a.job = g.job and a.token = g.token)), me.id,
      jsonb_build_object(
        'token', g.token, 'started', coalesce(l.begun, give_back.started), 'final', coalesce(l.final, false),
        'reason', give_back.reason, 'host', me.host)
    from given g left join ended l on l.job = g.job and l.token = g.token
  )
  select array_agg(distinct queue) into queues from again;
  foreach queue_id in array coalesce(queues, '{}') loop
    perform wake(queue_id);
  end loop;
end
$$;

-- Ends jobs that still wait when their time to start is over. One that runs, or has ended, is none of its business; one
-- that comes back later is ended by the claim that meets it.
create function expire(most int) returns int
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
declare
  ended int;
begin
  with due as (
    delete from deadline where ctid = any (array(
      select d.ctid from deadline d where d.start_before <= clock_timestamp() order by d.start_before limit most
      for update skip locked))
    returning job
  ), known as (
    select j.id, j.tenant, j.queue, p.lane, p.rank
    from due d cross join lateral (select * from job where job.id = d.job offset 0) j cross join lateral place(j) p
  ), unready as (
    delete from ready r using known k
    where r.queue = k.queue and r.lane = k.lane and r.rank = k.rank and r.job = k.id returning r.job, r.attempt
  ), unscheduled as (
    delete from scheduled s using known k where s.job = k.id returning s.job, s.attempt
  ), unblocked as (
    delete from blocked b using known k where b.job = k.id returning b.job, 0::smallint as attempt
  ), freed as (
    delete from dependency d using known k where d.child = k.id
  ), written as (
    insert into attempt (job, attempt, final, via, tenant, queue, outcome, reason)
    select k.id, w.attempt + 1, true, 'expire', k.tenant, k.queue, 'expired', 'not started before its time was over'
    from (select * from unready union all select * from unscheduled union all select * from unblocked) w
    join known k on k.id = w.job
    returning 1
  )
  select count(*) into ended from written;
  return ended;
end
$$;

-- As in 0010, and: expires what is due, and forgets idempotency keys that have expired.
create or replace function rescue(most int) returns int
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  queues smallint[];
  queue_id smallint;
  rescued int;
begin
  perform promote(most);
  perform expire(most);
  perform settle_missed(most);
  with gone as (
    delete from lease where ctid = any (array(
      select l.ctid from lease l left join worker w on w.id = l.worker
      where l.deadline_at < clock_timestamp() or w.id is null
        or w.seen_at < clock_timestamp() - make_interval(secs => w.lease_seconds)
      limit most for update of l skip locked))
    returning *
  ), ended as (
    select g.*, g.cancel or g.attempt >= j.max_attempts as final,
      case when g.cancel and g.started_at is null then 'cancelled' else 'lost' end as outcome,
      case when w.id is null or w.seen_at < clock_timestamp() - make_interval(secs => w.lease_seconds)
        then 'worker gone' else 'deadline passed' end as reason,
      w.name as worker_name, w.role as worker_role, w.host, w.build
    from gone g left join worker w on w.id = g.worker
    cross join lateral (select * from job where job.id = g.job offset 0) j
  ), written as (
    insert into attempt (job, attempt, final, via, tenant, queue, outcome, reason, code, inputs, isolation, token,
      worker, worker_name, worker_role, host, build, started_at)
    select e.job, e.attempt, e.final, 'rescue', e.tenant, e.queue, e.outcome,
      e.reason || case when e.cancel then '; cancelled' else '' end, e.attribution ->> 'code',
      nullif(e.attribution -> 'inputs', 'null'), nullif(e.attribution -> 'isolation', 'null'), e.token, e.worker,
      e.worker_name, e.worker_role, e.host, e.build, e.started_at
    from ended e
  ), again as (
    insert into ready (queue, lane, rank, job, attempt)
    select e.queue, e.lane, e.rank, e.job, e.attempt from ended e where not e.final returning queue
  ), noted as (
    insert into audit (what, job, attempt, worker, detail)
    select 'rescued', e.job, e.attempt, e.worker,
      jsonb_build_object('token', e.token, 'reason', e.reason, 'final', e.final, 'host', e.host)
    from ended e
  )
  select count(*), (select array_agg(distinct queue) from again) into rescued, queues from ended;
  foreach queue_id in array coalesce(queues, '{}') loop
    perform wake(queue_id);
  end loop;
  delete from worker where ctid = any (array(
    select w.ctid from worker w where w.seen_at < clock_timestamp() - interval '1 day'
      and not exists (select from lease l where l.worker = w.id) limit most for update skip locked));
  -- Of workers that are gone.
  delete from idle where ctid = any (array(
    select i.ctid from idle i where i.until < clock_timestamp() limit most for update skip locked));
  delete from idempotency where ctid = any (array(
    select i.ctid from idempotency i where i.expires_at < clock_timestamp() order by i.expires_at limit most
    for update skip locked));
  return rescued;
end
$$;

-- CREATE OR REPLACE forgets what 0012 set.
do $$
declare
  pinned text;
  setting text;
begin
  foreach pinned in array array['complete(bigint, uuid[], bigint[], text[], text[])',
    'give_back(worker, uuid[], bigint[], boolean, text)', 'rescue(int)', 'expire(int)']
  loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
  end loop;
end
$$;
