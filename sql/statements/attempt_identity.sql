-- Who an attempt is, and for whom it acts, while it is held and runs.
select now_at, deadline_at, submitter::text as submitter, policy, code, names_audience, person, array_to_json(scopes)::text as scopes,
  delegated_until
from cordon.attempt_identity($1::bigint, $2::text::uuid, $3::bigint, $4::text)
