-- Gives a role a tenant, and the queues it may use; null means all.
select cordon.add_principal($1::text, $2::text, $3::text[], $4::int) is null as added
