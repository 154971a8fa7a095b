-- Whether this database has the schema at all; asked from the catalog, because nothing of ours may exist yet.
select exists (select from pg_catalog.pg_namespace where nspname = 'cordon') as present
