-- The workers the database knows.
select w::text as worker from cordon.workers() w
