-- What would be in force for a tenant in a queue, were a document in force, or bound.
select cordon.trial_document($1::text, $2::text, $3::text, $4::text, $5::text) as document
