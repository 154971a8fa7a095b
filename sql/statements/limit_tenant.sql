-- How many jobs of a tenant run at once, and its weight beside others.
select cordon.limit_tenant($1::text, $2::int, $3::int)
