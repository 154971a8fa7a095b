-- How an attempt ends. Whoever deletes the lease row writes the attempt row, in one statement: completion, release,
-- rescue and cancellation race for that delete, one wins, and the losers write nothing but a note. So there is one
-- final attempt a job, whoever comes late.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- What a job wrote as its result; null where jsonb cannot hold it (\u0000, a number out of range, no JSON at all).
create function parse_result(result text) returns jsonb
language plpgsql stable strict security definer set search_path = cordon, pg_temp as $$
declare
  parsed jsonb;
begin
  parsed := result::jsonb;
  return case when not has_extreme_number(parsed) then parsed end;
exception when data_exception or statement_too_complex then
  return null;
end
$$;

-- Records finished attempts. `reports` are what the workers saw (AttemptReport without its result), `results` the
-- results as text. An attempt that is lost goes back to the queue while attempts remain and nobody cancelled it.
-- False for a job whose lease is gone: nothing is recorded then but that the report came late. The same completion
-- again, after an acknowledgement that never arrived, is true and writes nothing.
create function complete(worker bigint, jobs uuid[], tokens bigint[], reports text[], results text[])
returns table (job uuid, recorded boolean)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(complete.worker);
  stranger text;
  queue_id smallint;
begin
  select r::jsonb ->> 'outcome' into stranger from unnest(reports) r
  where coalesce(r::jsonb ->> 'outcome', '') not in ('succeeded', 'failed', 'signaled', 'timed_out', 'out_of_memory',
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
      select g.job, g.token, g.report::jsonb as report, g.result, parse_result(g.result) as parsed
      from unnest(jobs, tokens, reports, results) g (job, token, report, result)
    ), gone as (
      delete from lease l using given g where l.job = g.job and l.token = g.token and l.worker = me.id returning l.*
    ), ended as (
      select l.*, g.report, g.result, g.parsed, j.policy,
        g.report ->> 'outcome' <> 'lost' or l.cancel or l.attempt >= j.max_attempts as final
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
      insert into ready (queue, priority, job, tenant, attempt)
      select e.queue, e.priority, e.job, e.tenant, e.attempt from ended e where not e.final
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
  for queue_id in
    select distinct r.queue from ready r join unnest(jobs) j (id) on r.job = j.id where r.queue = any (me.queues)
  loop
    perform wake(queue_id);
  end loop;
end
$$;

-- Ends leases of a worker without a report. An attempt that had not begun is none: the job waits again under the same
-- number. One that had begun, because its start is on record or because the worker says so, is over as `lost`, and the
-- job waits for the next one while attempts remain. A job that was cancelled meanwhile is over as `cancelled`.
create function give_back(me worker, jobs uuid[], tokens bigint[], started boolean, reason text) returns void
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
    insert into ready (queue, priority, job, tenant, attempt)
    select e.queue, e.priority, e.job, e.tenant, case when e.begun then e.attempt else e.attempt - 1 end
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

-- A worker gives leases back; see give_back.
create function release(worker bigint, jobs uuid[], tokens bigint[], started boolean, reason text) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
begin
  perform give_back(own_worker(worker), jobs, tokens, started, reason);
end
$$;

-- Ends what nobody will end: leases whose worker is gone or silent for longer than its lease, or that are past their
-- hard deadline. In small batches, skipping rows another rescue holds. Also promotes what is due and forgets workers
-- that have been silent for a day and hold nothing.
-- A job whose cancel was asked for is over. It is `cancelled` only if its attempt never started: of one that had,
-- nobody knows how it ended, it may have done all its work, so it stays `lost`, with the cancel in the reason.
create function rescue(most int) returns int
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  queues smallint[];
  queue_id smallint;
  rescued int;
begin
  perform promote(most);
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
    insert into ready (queue, priority, job, tenant, attempt)
    select e.queue, e.priority, e.job, e.tenant, e.attempt from ended e where not e.final returning queue
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
  return rescued;
end
$$;

-- Whether this session may see jobs of every tenant.
create function sees_all() returns boolean
language sql stable security definer set search_path = cordon, pg_temp as $$
  select pg_has_role(session_user, 'cordon_operator', 'member') or pg_has_role(session_user, 'cordon_auditor', 'member')
$$;

-- The job, if it is of the caller's tenant or the caller may see everything. A job of another tenant and a job that
-- never was look the same.
create function visible_job(id uuid, everything boolean) returns job
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  found_job job;
begin
  select * into found_job from job j where j.id = visible_job.id
    and (j.tenant = (select p.tenant from principal p where p.role = session_user) or everything);
  if not found then
    perform refuse('CD404', 'job', format('there is no job %s', coalesce(visible_job.id::text, 'null')));
  end if;
  return found_job;
end
$$;

-- Cancels a job of the caller's tenant; operators cancel any. A waiting job is over at once, with the number its next
-- attempt would have had and no worker; a running one is `cancelling` until its worker has stopped it. A row that
-- moves between tables while we look (a claim, a rescue) is found in the next round.
create function cancel(job uuid) returns text
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  rounds constant int := 100;
  target constant job := visible_job(cancel.job, pg_has_role(session_user, 'cordon_operator', 'member'));
  waiting record;
begin
  for round in 1 .. rounds loop
    with unready as (
      delete from ready r where r.queue = target.queue and r.priority = target.priority and r.job = target.id
      returning r.attempt
    ), unscheduled as (
      delete from scheduled s where s.job = target.id returning s.attempt
    )
    select attempt + 1 as attempt into waiting from (select * from unready union all select * from unscheduled) w;
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

grant execute on function complete(bigint, uuid[], bigint[], text[], text[]),
  release(bigint, uuid[], bigint[], boolean, text) to cordon_worker;
grant execute on function rescue(int) to cordon_worker, cordon_operator;
grant execute on function cancel(uuid) to cordon_producer, cordon_operator;
