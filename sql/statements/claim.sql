-- Takes up to so many jobs for a worker, from lanes it knows or wherever some wait.
select job::text as job, attempt, token, tenant, queue, enqueued_by::text as enqueued_by,
  specification::text as specification, limits::text as limits, policy, document, params, lane, rank
from cordon.claim($1::bigint, $2::int, $3::int[], $4::bigint[], $5::int)
