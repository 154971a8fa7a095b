-- Takes away what is bound to a tenant, a queue, or a tenant in a queue.
select cordon.unbind_policy($1::text, $2::text) as changed
