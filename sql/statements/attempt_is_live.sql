-- Whether an attempt holds its lease and may act for those scopes, and what time it is there.
select cordon.attempt_is_live($1::uuid, $2::int, $3::bigint, $4::text[]) as live, clock_timestamp() as as_of
