-- A policy document by its digest.
select document, source, narrows from cordon.policy_document($1::text)
