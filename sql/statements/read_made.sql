-- The final attempt of a job that the claimed one names as an input; no row while that job is not over.
select attempt, result, artifacts from cordon.read_made($1::bigint, $2::uuid, $3::bigint, $4::uuid)
