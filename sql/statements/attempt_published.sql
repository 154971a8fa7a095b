-- What became of attempts that published directories, in the order asked.
select verdict
from cordon.attempt_published($1::bigint, $2::text[]::uuid[], $3::bigint[]::int[])
