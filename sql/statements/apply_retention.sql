-- Drops partitions that are due.
select p as partition from cordon.apply_retention() p
