-- Lets a paused schedule fire again, from now on.
select cordon.resume_schedule($1::text, $2::text)
