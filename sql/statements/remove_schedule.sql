-- Ends a schedule; what it has enqueued stays.
select cordon.remove_schedule($1::text, $2::text)
