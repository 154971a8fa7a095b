-- What is done with a job from outside, and where it is: cancel, snooze, its state, lists; with the lanes of 0017 and the
-- blocked jobs of 0020.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- As in 0010, for a job that somebody has been found to be allowed to cancel.
create function cancel_found(target job) returns text
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  rounds constant int := 100;
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

create or replace function cancel(job uuid) returns text
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
begin
  return cancel_found(visible_job(cancel.job, pg_has_role(session_user, 'cordon_operator', 'member')));
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

-- As in 0011, and the dead letter that the job was made of.
create or replace function record(job uuid, attempt bigint default null) returns jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  j constant job := visible_job(record.job, sees_all());
  now_state constant record := job_state(j.id);
  shown_attempt constant bigint := coalesce(record.attempt, now_state.attempt);
  a attempt;
  l lease;
  w worker;
  over boolean;
begin
  select * into a from attempt x where x.job = j.id and x.attempt = shown_attempt;
  over := found;
  if not over and shown_attempt is distinct from now_state.attempt then
    perform refuse('CD404', 'attempt', format('job %s has no attempt %s', j.id, shown_attempt));
  end if;
  if not over and now_state.state = 'running' then
    select * into l from lease x where x.job = j.id;
    select * into w from worker x where x.id = l.worker;
    a.worker := l.worker;
    a.worker_name := w.name;
    a.worker_role := w.role;
    a.host := w.host;
    a.build := w.build;
    a.started_at := l.started_at;
    a.code := l.attribution ->> 'code';
    a.inputs := nullif(l.attribution -> 'inputs', 'null');
    a.isolation := nullif(l.attribution -> 'isolation', 'null');
  end if;
  return jsonb_build_object(
    'job', j.id, 'tenant', j.tenant, 'queue', (select q.name from queue q where q.id = j.queue),
    'attempt', shown_attempt, 'state', case when over then 'finished' else now_state.state end)
    || jsonb_build_object('outcome', a.outcome, 'exit_code', a.exit_code, 'signal', a.signal, 'reason', a.reason,
      'notes', a.notes, 'result', a.result, 'stdout', a.stdout, 'stderr', a.stderr, 'usage', a.usage,
      'artifacts', a.artifacts, 'quarantined', a.quarantined, 'published', a.published)
    || jsonb_build_object('attribution', jsonb_build_object(
      'enqueued_by', j.enqueued_by, 'tenant', j.tenant, 'worker', a.worker_name || '#' || a.worker,
      'worker_role', a.worker_role, 'host', a.host, 'build', a.build, 'policy', j.policy, 'code', a.code,
      'inputs', a.inputs, 'isolation', '{"uid": null}' || a.isolation, 'retry_of', j.retry_of))
    || jsonb_build_object('enqueued_at', iso(j.enqueued_at), 'started_at', iso(a.started_at),
      'finished_at', iso(a.finished_at), 'attempts', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'attempt', x.attempt, 'outcome', x.outcome, 'final', x.final, 'reason', x.reason,
          'worker', x.worker_name || '#' || x.worker, 'host', x.host,
          'started_at', iso(x.started_at), 'finished_at', iso(x.finished_at)) order by x.attempt), '[]')
        from attempt x where x.job = j.id));
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
  foreach pinned in array array['cancel(uuid)', 'cancel_found(job)', 'job_state(uuid)', 'record(uuid, bigint)', 'jobs(text, text, int)',
    'snooze(uuid, timestamptz)']
  loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
  end loop;
end
$$;
