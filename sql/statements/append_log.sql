-- Keeps a piece of output; false when the lease is gone.
select cordon.append_log($1::bigint, $2::uuid, $3::bigint, $4::text, $5::bigint, $6::bytea) as kept
