-- How many jobs of a lane run at once, and how many start a second.
select cordon.limit_lane($1::text, $2::text, $3::text, $4::int, $5::float8, $6::float8)
