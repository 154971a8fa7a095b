-- The commands that make $1 a login and a member of the groups $2, in as far as it is not yet. Utility commands take
-- no parameters, so this statement writes them and the caller runs what it returns, with the rights of its own role.
select coalesce(string_agg(command, '; ' order by step), '') as script
from (
  select 0 as step, format('create role %I login', $1::text) as command
  where not exists (select from pg_catalog.pg_roles where rolname = $1::text)
  union all
  select 1, format('grant %I to %I', g, $1::text)
  from unnest($2::text[]) g
  where not exists (
    select from pg_catalog.pg_auth_members m
    join pg_catalog.pg_roles r on r.oid = m.roleid join pg_catalog.pg_roles u on u.oid = m.member
    where r.rolname = g and u.rolname = $1::text)
) commands
