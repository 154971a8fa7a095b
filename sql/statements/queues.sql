-- The queues and what is in them.
select q::text as queue from cordon.queues() q
