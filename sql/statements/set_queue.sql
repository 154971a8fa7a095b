-- open, paused or draining.
select cordon.set_queue($1::text, $2::text)
