-- Lets a schedule fire no more until it is resumed.
select cordon.pause_schedule($1::text, $2::text)
