-- One migration at a time in this database, until the end of the transaction. The key is the schema's name.
select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('cordon.schema_version', 0)) is null as locked
