-- One job; the specification comes as text so that size and syntax are refused in words about the request.
select job::text as job, created
from cordon.enqueue_job($1::text, cordon.parse_specification($2::text), $3::text, $4::timestamptz, $5::int,
  $6::timestamptz, $7::text, pg_catalog.make_interval(secs => $8::float8), $9::text,
  $10::text[]::uuid[], $11::text)
