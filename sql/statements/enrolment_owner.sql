-- Makes the functions that make logins (0055 calls them), in as far as this session may; run by every `cordon migrate`, so that a
-- superuser's heals what another one's could not. Nothing of it fails: without it no token is made, and whoever wants one is told this fix.
--
-- They are not a migration's, because migrations run as `cordon_owner`: whoever is that could write here what `cordon_enroller` does,
-- and who has CREATEROLE can, in PostgreSQL 15, become anybody but a superuser. So the schema, the functions and all that they name
-- are `cordon_enroller`'s or the system's, and `cordon_owner` may call them alone.
do $do$
declare
  reached constant text := 'cordon_logins.own_login(name), cordon_logins.group_of(name), cordon_logins.set_login(name, text, timestamptz),
    cordon_logins.make_login(text, text, text, timestamptz), cordon_logins.bar_login(name), cordon_logins.end_sessions(name),
    cordon_logins.drop_login(name)';
  -- The session may act as somebody else than itself.
  acts_as constant text := current_setting('role');
  is_superuser constant boolean := (select rolsuper from pg_catalog.pg_roles where rolname = current_user);
  wanted text;
begin
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  -- An older schema; or done already, and not for this session to do again.
  if to_regclass('cordon.join_token') is null
    or not is_superuser and to_regprocedure('cordon_logins.make_login(text, text, text, timestamptz)') is not null
  then
    return;
  end if;
  foreach wanted in array array['cordon_joiner nologin', 'cordon_enroller nologin createrole'] loop
    if not exists (select from pg_roles where rolname = split_part(wanted, ' ', 1)) then
      begin
        execute 'create role ' || wanted;
      exception when duplicate_object or unique_violation then
        -- Another database of this cluster is being migrated.
        null;
      end;
    end if;
  end loop;
  if exists (select from pg_roles where rolname = 'cordon_enroller' and (rolcanlogin or rolsuper or not rolcreaterole)) then
    raise warning 'cordon_enroller is not the role that migrations make (nologin, createrole); workers cannot enrol';
    return;
  end if;
  -- To act as it one must be a member; for no longer than this, also where making a role makes one a member (16's
  -- createrole_self_grant).
  if not is_superuser then
    execute format('grant cordon_enroller to %I', current_user);
  end if;
  -- From 16 on CREATEROLE is no longer enough to grant a group. (No syntax of 15's.)
  if current_setting('server_version_num')::int >= 160000 then
    execute 'grant cordon_worker, cordon_joiner to cordon_enroller with admin true, inherit false, set false';
  end if;
  if to_regnamespace('cordon_logins') is null then
    create schema cordon_logins authorization cordon_enroller;
  elsif exists (select from pg_namespace where nspname = 'cordon_logins' and nspowner <> 'cordon_enroller'::regrole) then
    raise exception using errcode = 'insufficient_privilege', message = 'the schema cordon_logins is not cordon_enroller''s';
  end if;
  set local role cordon_enroller;

  -- The name, if it is one that is made here.
  create or replace function cordon_logins.own_login(role name) returns name
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
  begin
    if role !~ '^cordon_(join|worker)_[0-9a-f]{16}$' then
      raise exception using errcode = '42501', message = format('role: %s was not made for a worker', quote_ident(role));
    end if;
    return role;
  end
  $$;

  create or replace function cordon_logins.group_of(login name) returns name
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
  begin
    return case when starts_with(login::text, 'cordon_join_') then 'cordon_joiner' else 'cordon_worker' end;
  end
  $$;

  -- The only place that a password is set. It must be a verifier to the letter: anything else PostgreSQL takes for the password itself.
  -- The time is written as text, so in a form that is read as it was meant.
  create or replace function cordon_logins.set_login(role name, verifier text, until timestamptz) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set datestyle = 'ISO, YMD' set timezone = 'UTC' as $$
  begin
    -- RFC 5803 as PostgreSQL writes it: at least the 4096 iterations of RFC 7677, a salt of 16 bytes and two keys of 32.
    if not coalesce(verifier ~
      '^SCRAM-SHA-256\$(409[6-9]|4[1-9][0-9]{2}|[5-9][0-9]{3}|[1-9][0-9]{4,5}):[A-Za-z0-9+/]{22}==\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$',
      false)
    then
      raise exception using errcode = '22023', message = 'verifier: is not SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey',
        hint = 'make it on the client, from a random password';
    end if;
    execute format('alter role %I password %L valid until %L', cordon_logins.own_login(role), verifier, until);
  end
  $$;

  -- `number` is what the name ends with; null is a new one.
  create or replace function cordon_logins.make_login(kind text, number text, verifier text, until timestamptz) returns name
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
  declare
    login constant name := cordon_logins.own_login('cordon_' || kind || '_'
      || coalesce(number, left(replace(gen_random_uuid()::text, '-', ''), 16)));
  begin
    -- A token may be tried again while a first session of it is still there. No worker takes all connections that the server has.
    execute format('create role %I login connection limit %s', login, case kind when 'join' then 2 else 64 end);
    perform cordon_logins.set_login(login, verifier, until);
    execute format('grant %I to %I', cordon_logins.group_of(login), login);
    -- To end its sessions, and what it owns, one must be a member.
    execute format('grant %I to %I', login, current_user);
    return login;
  end
  $$;

  -- Nobody gets in from here on, and who is in may do nothing more. A worker is let come as far as to be told so: it keeps its password,
  -- and pg_hba.conf takes it for a joiner, who may only use up a token and has none. By a wrong password, or no rule, it could not tell its
  -- end from a server that is set up wrong, and would hold what it runs for a whole lease.
  create or replace function cordon_logins.bar_login(role name) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
  declare
    login constant name := cordon_logins.own_login(role);
  begin
    if exists (select from pg_roles r where r.rolname = login and r.rolcanlogin) then
      if cordon_logins.group_of(login) = 'cordon_worker' then
        execute format('alter role %I nologin', login);
        execute format('grant cordon_joiner to %I', login);
      else
        execute format('alter role %I nologin password null valid until ''-infinity''', login);
      end if;
      execute format('revoke %I from %I', cordon_logins.group_of(login), login);
    end if;
  end
  $$;

  -- Waits for each a little, because what a session has locked is free when it is gone.
  create or replace function cordon_logins.end_sessions(role name) returns int
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
  declare
    login constant name := cordon_logins.own_login(role);
  begin
    return (
      select count(pg_terminate_backend(a.pid, 200))
      from pg_stat_activity a join pg_roles r on r.oid = a.usesysid
      where r.rolname = login and a.pid <> pg_backend_pid());
  end
  $$;

  -- Removes the login with what it owns in this database. Null when it is gone, else why it is not. Each thing it owns takes a lock, of
  -- which all sessions together have some thousands; more than a few is nothing that a worker does.
  create or replace function cordon_logins.drop_login(role name) returns text
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
  declare
    login constant name := cordon_logins.own_login(role);
  begin
    if (select count(*) from (
      select from pg_shdepend d join pg_roles r on r.oid = d.refobjid
      where d.refclassid = 'pg_authid'::regclass and r.rolname = login limit 500) owned) >= 500
    then
      return 'owns too much';
    end if;
    if exists (select from pg_roles r where r.rolname = login) then
      execute format('drop owned by %I', login);
      execute format('drop role %I', login);
    end if;
    return null;
  exception when others then
    return sqlerrm;
  end
  $$;

  execute format('revoke all on function %s from public', reached);
  execute format('grant execute on function %s to cordon_owner', reached);
  grant usage on schema cordon_logins to cordon_owner;
  perform set_config('role', acts_as, true);
  if not is_superuser then
    execute format('revoke cordon_enroller from %I', current_user);
  end if;
  grant usage on schema cordon to cordon_joiner;
  grant execute on function cordon.installed_version(), cordon.enrol(text, text) to cordon_joiner;
  -- What a token's login, or a worker's, could make without end.
  if is_superuser then
    revoke execute on function lo_create(oid), lo_creat(integer), lo_from_bytea(oid, bytea) from public;
  end if;
exception when insufficient_privilege or unique_violation or internal_error then
  raise warning 'workers cannot enrol: %; run cordon migrate once as a superuser', sqlerrm;
end
$do$
