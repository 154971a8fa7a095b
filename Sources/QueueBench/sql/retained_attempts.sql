-- The attempt of each of them, as the one that was recorded.
insert into cordon.attempt (job, attempt, final, via, tenant, queue, outcome, exit_code, notes, stdout, stderr, usage,
  artifacts, quarantined, code, inputs, isolation, token, worker, worker_name, worker_role, host, build, started_at,
  finished_at, recorded_by)
select j.id, t.attempt, t.final, t.via, t.tenant, t.queue, t.outcome, t.exit_code, t.notes, t.stdout, t.stderr, t.usage,
  t.artifacts, t.quarantined, t.code, t.inputs, t.isolation, t.token, t.worker, t.worker_name, t.worker_role, t.host,
  t.build, t.started_at, t.finished_at, t.recorded_by
from (select * from cordon.attempt order by job limit 1) t cross join cordon.job j
where j.id < t.job
