-- Notes an applied migration, in the transaction that applied it.
insert into cordon.schema_version (version, name, checksum) values ($1::int, $2::text, $3::text)
