-- A few chunks of a blob that a leased job names.
select b as bytes from cordon.read_blob($1::bigint, $2::uuid, $3::bigint, $4::text, $5::int, $6::int) b
