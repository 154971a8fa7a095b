-- Gives the functions of 0055 that make logins to `cordon_enroller`, in as far as this session may; run by every `cordon migrate`, so that
-- a superuser's heals what another one's could not. Nothing of it fails: without it those functions refuse, and say this fix.
do $$
declare
  enroller_functions constant text[] := array['own_login(name)', 'group_of(name)', 'set_login(name, text, timestamptz)',
    'make_login(text, text, text, timestamptz)', 'bar_login(name)', 'end_sessions(name)', 'drop_login(name)'];
  first constant regprocedure := to_regprocedure('cordon.own_login(name)');
  wanted text;
  joins boolean;
begin
  -- An older schema, or done already.
  if first is null or exists (
    select from pg_proc p join pg_roles r on r.oid = p.proowner where p.oid = first and r.rolname = 'cordon_enroller')
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
  -- To hand over, one must be a member of both; for no longer than this, also where making a role makes one a member (16's
  -- createrole_self_grant).
  joins := not (select rolsuper from pg_roles where rolname = current_user);
  if joins then
    execute format('grant cordon_enroller to %I', current_user);
  end if;
  -- From 16 on CREATEROLE is no longer enough to grant a group. (No syntax of 15's.)
  if current_setting('server_version_num')::int >= 160000 then
    execute 'grant cordon_worker, cordon_joiner to cordon_enroller with admin true, inherit false, set false';
  end if;
  grant usage, create on schema cordon to cordon_enroller;
  foreach wanted in array enroller_functions loop
    execute format('alter function cordon.%s owner to cordon_enroller', wanted);
    execute format('grant execute on function cordon.%s to cordon_owner', wanted);
  end loop;
  revoke create on schema cordon from cordon_enroller;
  if joins then
    execute format('revoke cordon_enroller from %I', current_user);
  end if;
  grant usage on schema cordon to cordon_joiner;
  grant execute on function cordon.installed_version(), cordon.enrol(text, text) to cordon_joiner;
exception when insufficient_privilege or unique_violation or internal_error then
  raise warning 'workers cannot enrol: %; run cordon migrate once as a superuser', sqlerrm;
end
$$
