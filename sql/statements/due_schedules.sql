-- Schedules at which a worker is to look, with the clock that says so.
select tenant, name, turn, document::text as document, handled_at, now from cordon.due_schedules($1::int)
