-- The newest dead letters this role may see.
select d::text as letter from cordon.dead_letters($1::text, $2::int) d
