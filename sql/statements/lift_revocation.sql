-- Lifts a revocation.
select cordon.lift_revocation($1::text, $2::text, $3::text) as changed
