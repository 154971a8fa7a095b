-- Ends what an agent may do for a person.
select cordon.undelegate($1::text, $2::text) as ended
