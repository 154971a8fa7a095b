-- A worker stops by itself, and why.
select cordon.report_drained($1::bigint, $2::text) is null as reported
