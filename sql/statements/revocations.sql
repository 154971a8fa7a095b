-- What is revoked, or all that was decided, as JSON texts.
select r::text as entry from cordon.revocations($1::boolean) r
