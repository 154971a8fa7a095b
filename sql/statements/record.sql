-- The one record of a job, at its latest attempt or a given one.
select cordon.record($1::uuid, $2::bigint)::text as record
