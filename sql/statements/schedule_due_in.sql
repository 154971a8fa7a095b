-- Seconds until the next schedule is due.
select cordon.schedule_due_in() as seconds
