-- How long a class is kept; null is for ever.
select cordon.set_retention($1::text, pg_catalog.make_interval(secs => $2::float8))
