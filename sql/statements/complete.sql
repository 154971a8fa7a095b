-- Records finished attempts; says for each whether its lease was still held.
select job::text as job, recorded
from cordon.complete($1::bigint, $2::text[]::uuid[], $3::bigint[], $4::text[], $5::text[])
