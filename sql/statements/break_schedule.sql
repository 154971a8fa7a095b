-- Says that a schedule's document cannot be used.
select cordon.break_schedule($1::text, $2::text, $3::bigint, $4::text) as broken
