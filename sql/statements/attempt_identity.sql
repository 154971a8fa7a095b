-- Who an attempt is, while it is held and runs.
select now_at, deadline_at, submitter::text as submitter, policy, code, names_audience
from cordon.attempt_identity($1::bigint, $2::text::uuid, $3::bigint, $4::text)
