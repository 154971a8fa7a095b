-- Takes up to so many jobs for a worker.
select job::text as job, attempt, token, tenant, queue, enqueued_by::text as enqueued_by,
  specification::text as specification, limits::text as limits, policy, document, params
from cordon.claim($1::bigint, $2::int)
