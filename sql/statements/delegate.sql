-- Lets an agent act for a person: for the session's own, or for one that an operator names.
select cordon.delegate($1::text, $2::text[], $3::timestamptz, $4::text) is null as delegated
