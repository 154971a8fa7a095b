-- What a tenant may do in a queue, and which document decided.
select cordon.explain_policy($1::text, $2::text, $3::jsonb)::text as explanation
