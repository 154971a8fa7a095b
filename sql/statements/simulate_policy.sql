-- What a document would have decided otherwise.
select cordon.simulate_policy($1::text, $2::text, $3::text, make_interval(secs => $4::float8), $5::int)::text as outcome
