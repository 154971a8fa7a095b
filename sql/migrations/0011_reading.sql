-- What people and programs read: one record a job in the words every interface uses, lists, logs, the audit trail.
-- A producer reads its tenant, operators and auditors read all. A field that is not known yet is null, never missing.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- Where a job is now, and the attempt that is running, waiting or final.
create function job_state(id uuid, out state text, out attempt int)
language sql stable security definer set search_path = cordon, pg_temp as $$
  select s.state, s.attempt from (
    select 'finished' as state, a.attempt::int from attempt a where a.job = id and a.final
    union all select 'running', l.attempt from lease l where l.job = id
    union all select 'queued', r.attempt + 1 from job j join ready r
      on r.queue = j.queue and r.priority = j.priority and r.job = j.id where j.id = job_state.id
    union all select 'scheduled', s.attempt + 1 from scheduled s where s.job = id
  ) s limit 1
$$;

-- `attempt` is wider than any attempt's number, so that one which cannot exist is refused like one which does not.
create function record(job uuid, attempt bigint default null) returns jsonb
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
      'inputs', a.inputs, 'isolation', '{"uid": null}' || a.isolation))
    || jsonb_build_object('enqueued_at', iso(j.enqueued_at), 'started_at', iso(a.started_at),
      'finished_at', iso(a.finished_at), 'attempts', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'attempt', x.attempt, 'outcome', x.outcome, 'final', x.final, 'reason', x.reason,
          'worker', x.worker_name || '#' || x.worker, 'host', x.host,
          'started_at', iso(x.started_at), 'finished_at', iso(x.finished_at)) order by x.attempt), '[]')
        from attempt x where x.job = j.id));
end
$$;

-- The newest jobs this session may see, in a state, in a queue. Only who sees everything is told that a queue does not
-- exist; to others one that is unknown and one without jobs of theirs look the same.
create function jobs(state text default null, queue text default null, most int default 100) returns setof jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  everything constant boolean := sees_all();
  mine constant text := (select p.tenant from principal p where p.role = session_user);
  wanted constant smallint := (select q.id from queue q where q.name = jobs.queue);
begin
  if jobs.state not in ('scheduled', 'queued', 'running', 'finished') then
    perform refuse('22023', 'state', shown(jobs.state) || ' is no state; use scheduled, queued, running or finished');
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
      (select r.job from ready r where jobs.state = 'queued' and (everything or r.tenant = mine)
        and (wanted is null or r.queue = wanted) order by r.job desc limit most)
      union all
      (select s.job from scheduled s where jobs.state = 'scheduled' and (everything or s.tenant = mine)
        and (wanted is null or s.queue = wanted) order by s.job desc limit most)
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

-- Pieces of an attempt's streams after a sequence number; without an attempt, those of the one that runs, or else of
-- the last that ended.
create function logs(job uuid, attempt bigint, after bigint, most int)
returns table (attempt_number int, stream text, sequence bigint, at timestamptz, bytes bytea)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  j constant job := visible_job(logs.job, sees_all());
  wanted constant bigint := coalesce(logs.attempt, (select l.attempt from lease l where l.job = j.id),
    (select max(a.attempt) from attempt a where a.job = j.id));
begin
  if not coalesce(most between 1 and 10000, false) then
    perform refuse('22023', 'limit', format('%s is not 1 to 10000', coalesce(most::text, 'null')));
  end if;
  return query
    select c.attempt::int, c.stream, c.sequence, c.at, c.bytes from log_chunk c
    where c.job = j.id and c.attempt = wanted and c.sequence > coalesce(logs.after, -1) order by c.sequence limit most;
end
$$;

create function audit_events(after bigint default 0, most int default 1000) returns setof jsonb
language sql stable security definer set search_path = cordon, pg_temp as $$
  select jsonb_build_object('id', a.id, 'at', iso(a.at), 'who', a.who, 'what', a.what, 'job', a.job,
    'attempt', a.attempt, 'worker', a.worker, 'detail', a.detail)
  from audit a where a.id > after order by a.id limit least(most, 10000)
$$;

grant execute on function record(uuid, bigint), jobs(text, text, int), logs(uuid, bigint, bigint, int)
  to cordon_producer, cordon_operator, cordon_auditor;
grant execute on function audit_events(bigint, int) to cordon_operator, cordon_auditor;
