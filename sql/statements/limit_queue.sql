-- How many jobs of a queue run at once.
select cordon.limit_queue($1::text, $2::int, pg_catalog.make_interval(secs => $3::float8))
