-- Pieces of an attempt's streams after a sequence number.
select attempt_number as attempt, stream, sequence, at, bytes
from cordon.logs($1::uuid, $2::bigint, $3::bigint, $4::int)
