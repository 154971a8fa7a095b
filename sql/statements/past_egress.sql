-- Lines of past attempts, the newest first, with what is needed to judge them again.
select job::text as job, attempt, seq, line, of_tenant as tenant, of_queue as queue, grants::text as grants, policy
from cordon.past_egress(make_interval(secs => $1::float8), $2::text, $3::text, $4::text::uuid, $5::int, $6::bigint, $7::int)
