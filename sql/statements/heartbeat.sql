-- Tells that a worker lives; says which of its jobs to cancel and which it has lost.
select token, verdict from cordon.heartbeat($1::bigint, $2::text[]::uuid[], $3::bigint[])
