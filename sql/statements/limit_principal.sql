-- Says what a principal is, until when, and how much it may.
select cordon.limit_principal($1::text, $2::text, $3::timestamptz, $4::int, $5::float8, $6::bigint)
