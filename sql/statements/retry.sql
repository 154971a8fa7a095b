-- A dead letter once more, as a new job.
select cordon.retry($1::uuid)::text as job
