-- Ends leases nobody will end; how many it were.
select cordon.rescue($1::int) as rescued
