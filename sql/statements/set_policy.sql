-- Puts a policy document in force and says its digest.
select cordon.set_policy($1::text, $2::text) as digest
