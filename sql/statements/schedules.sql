-- The schedules the session may see, or those of one name.
select s::text as schedule from cordon.schedules($1::text, $2::int) s
