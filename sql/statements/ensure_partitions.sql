-- Makes the partitions of the coming weeks; how many were missing.
select cordon.ensure_partitions() as made
