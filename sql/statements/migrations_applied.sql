-- What was applied, for the migrating role to compare with what it carries.
select version, name, checksum from cordon.schema_version order by version
