-- A login that may enrol one worker, of tenant $1 and queues $2 (null: all), within $3 seconds; its identity lives $4 seconds at a time.
select role::text as role, expires_at
from cordon.create_join_token($1::text, $2::text[], make_interval(secs => $3::float8), make_interval(secs => $4::float8), $5::text)
