-- Gives leases back.
select cordon.release($1::bigint, $2::text[]::uuid[], $3::bigint[], $4::boolean, $5::text) is null as released
