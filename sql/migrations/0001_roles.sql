-- Who exists and who owns. Everything in schema `cordon` belongs to a role nobody logs in as; people and programs
-- are members of four groups that may call functions and touch no table. Roles belong to the whole cluster while an
-- advisory lock belongs to one database, so two databases may be migrated at the same moment: every step on a role
-- takes "somebody else just did it" for success.

do $$
declare
  wanted text;
begin
  foreach wanted in array array[
    'cordon_owner', 'cordon_producer', 'cordon_worker', 'cordon_operator', 'cordon_auditor']
  loop
    if not exists (select from pg_catalog.pg_roles where rolname = wanted) then
      begin
        execute format('create role %I nologin', wanted);
      exception when duplicate_object or unique_violation then
        null;
      end;
    end if;
  end loop;

  -- A migrating role that is no superuser must be a member of the owner to create things in its name.
  if not pg_catalog.pg_has_role(current_user, 'cordon_owner', 'member') then
    begin
      execute format('grant cordon_owner to %I', current_user);
    exception when unique_violation or internal_error then
      -- internal_error is "tuple concurrently updated": the other migration granted it.
      if not pg_catalog.pg_has_role(current_user, 'cordon_owner', 'member') then
        raise;
      end if;
    end;
  end if;
end
$$;

create schema cordon authorization cordon_owner;

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- PUBLIC may execute every new function and use every new type unless its creator says otherwise beforehand.
alter default privileges for role cordon_owner revoke execute on functions from public;
alter default privileges for role cordon_owner revoke usage on types from public;

grant usage on schema cordon to cordon_producer, cordon_worker, cordon_operator, cordon_auditor;

create table schema_version (
  version int primary key,
  name text not null unique,
  checksum text not null check (checksum ~ '^sha256:[0-9a-f]{64}$'),
  applied_at timestamptz not null default clock_timestamp(),
  applied_by name not null default session_user
);

-- The newest applied migration: what a client compares with the newest one it carries.
create function installed_version() returns int
language sql stable security definer set search_path = cordon, pg_temp as $$
  select coalesce(max(version), 0) from schema_version
$$;

grant execute on function installed_version() to cordon_producer, cordon_worker, cordon_operator, cordon_auditor;
