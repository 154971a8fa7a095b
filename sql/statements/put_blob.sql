-- Stores bytes for the caller's tenant and says their digest.
select cordon.put_blob($1::bytea) as digest
