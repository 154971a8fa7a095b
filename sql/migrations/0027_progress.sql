-- How far a running job says that it is: a JSON document of its own making, kept with its lease and gone with it, so that no
-- job pays for it that does not report. The worker looks at most once a second and writes what has changed, for all its jobs
-- in one statement.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

alter table lease add column progress jsonb, add column progress_at timestamptz;

-- Keeps what jobs of this worker say of their progress. A lease that is gone, or that somebody is ending at this moment, is
-- passed over, so nothing waits for a report. What a database cannot hold is passed over as well: it is the job's word.
create function report_progress(worker bigint, jobs uuid[], tokens bigint[], reports text[]) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  -- Within one page of the table, whatever else the lease has.
  most constant int := 1024;
  me constant worker := own_worker(report_progress.worker);
begin
  if exists (select from unnest(reports) r where octet_length(r) > most) then
    perform refuse('22023', 'report', format('has more than %s bytes', most));
  end if;
  with given as (
    select g.job, g.token, parse_result(g.report) as report
    from unnest(report_progress.jobs, report_progress.tokens, report_progress.reports) g (job, token, report)
  ), held as (
    select l.job, g.report from given g join lease l on l.job = g.job and l.token = g.token
    where l.worker = me.id and l.started_at is not null and g.report is not null
    for update of l skip locked
  )
  update lease l set progress = h.report, progress_at = clock_timestamp() from held h where l.job = h.job;
end
$$;

-- As in 0025, and how far a running attempt says that it is.
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
    -- The job's word, and of a running attempt only: what counts when it is over is its result.
    || jsonb_build_object('progress', case when l.progress is not null then
      jsonb_build_object('report', l.progress, 'at', iso(l.progress_at)) end)
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

grant execute on function report_progress(bigint, uuid[], bigint[], text[]) to cordon_worker;

do $$
declare
  pinned text;
  setting text;
begin
  foreach pinned in array array['report_progress(bigint, uuid[], bigint[], text[])', 'record(uuid, bigint)'] loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
  end loop;
end
$$;
