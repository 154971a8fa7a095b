-- Binds a document to a tenant, a queue, or a tenant in a queue.
select digest, is_known from cordon.bind_policy($1::text, $2::text, $3::text, $4::text)
