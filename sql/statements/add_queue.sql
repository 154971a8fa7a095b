-- A queue, unless it is there.
select cordon.add_queue($1::text) is null as added
