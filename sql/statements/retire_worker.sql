-- A worker leaves.
select cordon.retire_worker($1::bigint) is null as retired
