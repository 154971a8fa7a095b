-- The jobs among these that may begin now.
select s::text as job from cordon.start($1::bigint, $2::text[]::uuid[], $3::bigint[], $4::text[]) s
