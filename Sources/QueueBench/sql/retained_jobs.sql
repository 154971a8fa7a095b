-- $1 finished jobs like the one that is there, enqueued in the moments before it: beside the rows that come, in the
-- partition they come to, which is where they are most in the way.
insert into cordon.job (id, tenant, queue, priority, specification, limits, policy, max_attempts, margin_ms, enqueued_at,
  enqueued_by, lane, rank)
select cordon.uuid7(cordon.micros(t.enqueued_at) - n * 20), t.tenant, t.queue, t.priority, t.specification, t.limits,
  t.policy, t.max_attempts, t.margin_ms, t.enqueued_at - n * interval '20 microseconds', t.enqueued_by, t.lane, t.rank
from (select * from cordon.job order by id limit 1) t cross join generate_series(1, $1::int) n
