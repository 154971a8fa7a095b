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

-- As in 0010.
create or replace function cancel(job uuid) returns text
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  rounds constant int := 100;
  target constant job := visible_job(cancel.job, pg_has_role(session_user, 'cordon_operator', 'member'));
  at constant record := place(target);
  waiting record;
begin
  for round in 1 .. rounds loop
    with unready as (
      delete from ready r
      where r.queue = target.queue and r.lane = at.lane and r.rank = at.rank and r.job = target.id
      returning r.attempt
    ), unscheduled as (
      delete from scheduled s where s.job = target.id returning s.attempt
    ), unblocked as (
      delete from blocked b where b.job = target.id returning 0::smallint as attempt
    ), freed as (
      delete from dependency d where d.child = target.id
    )
    select attempt + 1 as attempt into waiting
    from (select * from unready union all select * from unscheduled union all select * from unblocked) w;
    if found then
      insert into attempt (job, attempt, final, via, tenant, queue, outcome, reason)
      values (target.id, waiting.attempt, true, 'cancel', target.tenant, target.queue, 'cancelled',
        'cancelled before it was claimed');
      insert into audit (what, job, attempt) values ('cancelled', target.id, waiting.attempt);
      return 'cancelled';
    end if;

    update lease l set cancel = true where l.job = target.id and not l.cancel
    returning l.attempt, l.worker into waiting;
    if found then
      insert into audit (what, job, attempt, worker)
      values ('cancel_requested', target.id, waiting.attempt, waiting.worker);
      perform pg_notify('cordon_cancel', target.id::text);
      return 'cancelling';
    elsif exists (select from lease l where l.job = target.id) then
      return 'cancelling';
    elsif exists (select from attempt a where a.job = target.id and a.final) then
      return 'finished';
    end if;
  end loop;
  raise exception using errcode = '40001', message = 'job: moved faster than it could be cancelled', hint = 'try again';
end
$$;

-- As in 0011.
create or replace function job_state(id uuid, out state text, out attempt int)
language sql stable security definer set search_path = cordon, pg_temp as $$
  select s.state, s.attempt from (
    select 'finished' as state, a.attempt::int from attempt a where a.job = id and a.final
    union all select 'running', l.attempt from lease l where l.job = id
    union all select 'queued', r.attempt + 1 from job j cross join lateral place(j) p join ready r
      on r.queue = j.queue and r.lane = p.lane and r.rank = p.rank and r.job = j.id where j.id = job_state.id
    union all select 'scheduled', s.attempt + 1 from scheduled s where s.job = id
    union all select 'blocked', 1 from blocked b where b.job = id
  ) s limit 1
$$;

create or replace function jobs(state text default null, queue text default null, most int default 100) returns setof jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  everything constant boolean := sees_all();
  mine constant text := (select p.tenant from principal p where p.role = session_user);
  wanted constant smallint := (select q.id from queue q where q.name = jobs.queue);
begin
  if jobs.state not in ('blocked', 'scheduled', 'queued', 'running', 'finished') then
    perform refuse('22023', 'state',
      shown(jobs.state) || ' is no state; use blocked, scheduled, queued, running or finished');
  elsif not coalesce(most between 1 and 1000, false) then
    perform refuse('22023', 'limit', format('%s is not 1 to 1000', coalesce(most::text, 'null')));
  elsif jobs.queue is not null and wanted is null then
    if everything then
      perform refuse('42501', 'queue', shown(jobs.queue) || ' is unknown');
    end if;
    return;
  end if;
  return query
    with ids (id) as (
      (select r.job from ready r join lane n on n.id = r.lane where jobs.state = 'queued' and (everything or n.tenant = mine)
        and (wanted is null or r.queue = wanted) order by r.job desc limit most)
      union all
      (select s.job from scheduled s join lane n on n.id = s.lane where jobs.state = 'scheduled' and (everything or n.tenant = mine)
        and (wanted is null or s.queue = wanted) order by s.job desc limit most)
      union all
      (select b.job from blocked b join lane n on n.id = b.lane
        where jobs.state = 'blocked' and (everything or n.tenant = mine)
        and (wanted is null or b.queue = wanted) order by b.job desc limit most)
      union all
      (select l.job from lease l where jobs.state = 'running' and (everything or l.tenant = mine)
        and (wanted is null or l.queue = wanted) order by l.job desc limit most)
      union all
      (select a.job from attempt a where jobs.state = 'finished' and a.final and (everything or a.tenant = mine)
        and (wanted is null or a.queue = wanted) order by a.job desc limit most)
      union all
      (select j.id from job j where jobs.state is null and (everything or j.tenant = mine)
        and (wanted is null or j.queue = wanted) order by j.id desc limit most)
    )
    select jsonb_build_object(
      'job', j.id, 'tenant', j.tenant, 'queue', (select q.name from queue q where q.id = j.queue), 'state', s.state,
      'outcome', a.outcome, 'attempt', s.attempt, 'exit_code', a.exit_code, 'signal', a.signal, 'reason', a.reason,
      'runtime', j.specification ->> 'runtime', 'labels', coalesce(nullif(j.specification -> 'labels', 'null'), '{}'),
      'priority', j.priority, 'key', j.key, 'enqueued_by', j.enqueued_by, 'enqueued_at', iso(j.enqueued_at),
      'run_at', iso(j.run_at), 'started_at', iso(coalesce(a.started_at, l.started_at)),
      'finished_at', iso(a.finished_at))
    from ids cross join lateral (select * from job where job.id = ids.id offset 0) j
    cross join lateral job_state(j.id) s
    left join lease l on l.job = j.id
    left join attempt a on a.job = j.id and a.attempt = s.attempt and s.state = 'finished'
    order by j.id desc;
end
$$;

-- Puts a waiting job off until a moment, by its producer or an operator; one that runs or has ended is refused.
create function snooze(job uuid, until timestamptz) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  target constant job := visible_job(snooze.job, pg_has_role(session_user, 'cordon_operator', 'member'));
  at constant record := place(target);
  attempt smallint;
begin
  if not coalesce(isfinite(snooze.until) and snooze.until < clock_timestamp() + interval '100 years', false) then
    perform refuse('22023', 'until', 'must be a time within 100 years from now');
  end if;
  delete from ready r where r.queue = target.queue and r.lane = at.lane and r.rank = at.rank and r.job = target.id
  returning r.attempt into attempt;
  if not found then
    delete from scheduled s where s.job = target.id returning s.attempt into attempt;
  end if;
  if attempt is null then
    perform refuse('22023', 'job', format('%s does not wait; it is %s', target.id, (job_state(target.id)).state));
  end if;
  insert into scheduled (run_at, job, queue, lane, rank, attempt)
  values (snooze.until, target.id, target.queue, at.lane, at.rank, attempt);
  insert into audit (what, job, attempt, detail)
  values ('snoozed', target.id, attempt + 1, jsonb_build_object('until', iso(snooze.until)));
end
$$;

-- The queues, with what waits and runs in each.
create function queues() returns setof jsonb
language sql stable security definer set search_path = cordon, pg_temp as $$
  select jsonb_build_object('queue', q.name, 'state', q.state, 'max_running', q.max_running,
    'ageing_seconds', q.ageing_ms / 1000.0,
    'queued', (select count(*) from ready r where r.queue = q.id),
    'scheduled', (select count(*) from scheduled s where s.queue = q.id),
    'blocked', (select count(*) from blocked b where b.queue = q.id),
    'running', (select count(*) from lease l where l.queue = q.id),
    'dead', (select count(*) from dead_letter d where d.queue = q.id),
    'lanes', (select coalesce(jsonb_agg(jsonb_build_object('tenant', l.tenant, 'lane', l.key,
      'max_running', l.max_running, 'per_second', l.rate, 'burst', l.burst) order by l.tenant, l.key), '[]')
      from lane l where l.queue = q.id and (l.max_running is not null or l.rate is not null)))
  from queue q order by q.name
$$;

grant execute on function snooze(uuid, timestamptz) to cordon_producer, cordon_operator;
grant execute on function queues() to cordon_operator, cordon_auditor;

-- CREATE OR REPLACE forgets what 0012 set.
do $$
declare
  pinned text;
  setting text;
begin
  foreach pinned in array array['complete(bigint, uuid[], bigint[], text[], text[])',
    'give_back(worker, uuid[], bigint[], boolean, text)', 'rescue(int)', 'expire(int)', 'cancel(uuid)',
    'job_state(uuid)', 'jobs(text, text, int)', 'snooze(uuid, timestamptz)']
  loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
  end loop;
end
$$;
