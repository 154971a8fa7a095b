-- Takes up to so many jobs for a worker, wherever some wait; one that waits alone begins where it can.
select job::text as job, attempt, token, tenant, queue, enqueued_by::text as enqueued_by,
  specification::text as specification, limits::text as limits, policy, document, params, lane, rank, begun
from cordon.claim_begun($1::bigint, $2::int, $3::int, $4::text)
