-- Keeps what running jobs say of their progress.
select cordon.report_progress($1::bigint, $2::text[]::uuid[], $3::bigint[], $4::text[])
