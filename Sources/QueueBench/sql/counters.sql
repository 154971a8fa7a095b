-- What the server has written and which row versions have died so far, of all tables of this database.
select (pg_catalog.pg_current_wal_insert_lsn() - '0/0')::bigint as wal,
  coalesce(sum(t.n_tup_upd + t.n_tup_del), 0)::bigint as died, coalesce(sum(t.n_dead_tup), 0)::bigint as dead
from pg_catalog.pg_stat_user_tables t
