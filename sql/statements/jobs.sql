-- The newest jobs this role may see.
select j::text as job from cordon.jobs($1::text, $2::text, $3::int) j
