-- How a worker comes to its login without anybody carrying a password to its host.
--
--   An operator's client makes a random password and hands its SCRAM verifier to `create_join_token`: there is a login then, of the group
--   `cordon_joiner`, that can do one thing, once, and not for long. Its name and password are the join token.
--   The worker's host logs in with it, makes a password of its own, and calls `enrol` with the verifier: in one transaction the token is
--   used, its login is barred, and there is a login of `cordon_worker` with a principal of the token's tenant and queues, for the token's
--   life. Its name ends as the token's does, so a worker that did not hear the answer knows whom it has become.
--   Before its life is over the worker calls `renew` with another verifier. From then on the password before it opens no session.
--   How identities end is in 0056.
--
-- No password reaches the server, so no log, view or backup of it has one.
--
-- Whoever has CREATEROLE can, in PostgreSQL 15, become anybody but a superuser. So nobody logs in with it: a few functions with fixed
-- bodies belong to `cordon_enroller`, who cannot log in and has no members, in a schema of its own where `cordon_owner` can put nothing
-- in their way. They make the names they use, or see to it that it is one of those. `sql/statements/enrolment_owner.sql` makes them,
-- where whoever migrates may; where not, no token is made, and what would be done to logins finds none.
--
-- Roles are the cluster's and rows are the database's. Names are random, and what is removed is what this database's rows name.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

create table join_token (
  role name primary key,
  tenant text,
  queues text[],
  -- Of the identities it makes.
  life interval not null,
  expires_at timestamptz not null,
  made_at timestamptz not null default clock_timestamp(),
  made_by name not null default session_user,
  used_at timestamptz,
  withdrawn_at timestamptz
);

-- Logins that came by a token. Until when each is good stands in its principal.
create table enrolment (
  role name primary key,
  name text not null,
  token name not null,
  life interval not null,
  enrolled_at timestamptz not null default clock_timestamp(),
  renewed_at timestamptz not null default clock_timestamp(),
  renewals bigint not null default 0,
  -- For good: what is lifted later brings no login back.
  barred_at timestamptz
);

-- What a principal may be let do: names that are well formed and known. As 0008 had it in `add_principal`.
create function check_reach(tenant text, queues text[]) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  stranger text;
begin
  if check_reach.tenant !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' then
    perform refuse('22023', 'tenant', shown(check_reach.tenant) || ' is no name of a tenant',
      'letters, digits, . _ and -, a letter or digit first, at most 63');
  elsif cardinality(check_reach.queues) = 0 then
    perform refuse('22023', 'queues', 'an empty list allows nothing; leave it out to allow every queue');
  end if;
  select shown(n) into stranger from unnest(check_reach.queues) n
  where n is null or not exists (select from queue q where q.name = n) limit 1;
  if found then
    perform refuse('22023', 'queues', stranger || ' is unknown');
  end if;
end
$$;

select change_function('add_principal(text, text, text[], int)', c.before, c.after) from (values
  ($a$  elsif add_principal.tenant !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' then
    perform refuse('22023', 'tenant', shown(add_principal.tenant) || ' is no name of a tenant',
      'letters, digits, . _ and -, a letter or digit first, at most 63');
  elsif cardinality(add_principal.queues) = 0 then
    perform refuse('22023', 'queues', 'an empty list allows nothing; leave it out to allow every queue');
$a$, ''),
  ($a$  select n into stranger from unnest(add_principal.queues) n
  where not exists (select from queue q where q.name = n) limit 1;
  if found then
    perform refuse('22023', 'queues', shown(stranger) || ' is unknown');
  end if;
$a$, E'  perform check_reach(add_principal.tenant, add_principal.queues);\n'),
  (E'declare\n  stranger text;\nbegin', 'begin')
) c (before, after);

create function create_join_token(
  tenant text, queues text[], expires interval, life interval, verifier text, out role name, out expires_at timestamptz)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  perform check_reach(create_join_token.tenant, create_join_token.queues);
  if not coalesce(create_join_token.expires between interval '1 second' and interval '7 days', false) then
    perform refuse('22023', 'expires', format('%s is not 1 s to 7 days', coalesce(create_join_token.expires::text, 'null')));
  elsif not coalesce(create_join_token.life between interval '5 seconds' and interval '7 days', false) then
    perform refuse('22023', 'life', format('%s is not 5 s to 7 days', coalesce(create_join_token.life::text, 'null')));
  end if;
  if to_regprocedure('cordon_logins.make_login(text, text, text, timestamptz)') is null then
    perform refuse('42501', 'enrolment', 'this database may not make logins',
      'run `cordon migrate` once as a superuser, or as a role with CREATEROLE that may act as cordon_owner');
  end if;
  expires_at := clock_timestamp() + create_join_token.expires;
  role := cordon_logins.make_login('join', null, create_join_token.verifier, expires_at);
  insert into join_token (role, tenant, queues, life, expires_at)
  values (role, create_join_token.tenant, create_join_token.queues, create_join_token.life, expires_at);
  insert into audit (what, detail) values ('join_token_made', jsonb_build_object('role', role,
    'tenant', create_join_token.tenant, 'queues', create_join_token.queues, 'expires_at', iso(expires_at),
    'life_seconds', extract(epoch from create_join_token.life)));
end
$$;

-- Uses the token that this session logged in with, up. `seconds` is how long the identity lives by the server's clock.
create function enrol(name text, verifier text, out role name, out expires_at timestamptz, out seconds float8)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  token join_token;
begin
  perform require_read_committed();
  -- Of two at once the second waits here, and then sees the first.
  select * into token from join_token t where t.role = session_user for update;
  if not found then
    perform refuse('42501', 'token', shown(session_user::text) || ' is no join token', 'cordon workers invite makes one');
  elsif token.used_at is not null or token.withdrawn_at is not null or token.expires_at <= clock_timestamp() then
    perform refuse('42501', 'token', format('%s %s at %s', token.role,
      case when token.used_at is not null then 'was used' when token.withdrawn_at is not null then 'was withdrawn' else 'expired' end,
      iso(coalesce(token.used_at, token.withdrawn_at, token.expires_at))), 'ask an operator for another: cordon workers invite');
  elsif not coalesce(octet_length(enrol.name) between 1 and 128, false) then
    perform refuse('22023', 'name', 'has 1 to 128 bytes');
  elsif exists (select from revoked r where r.kind = 'worker' and r.target = enrol.name) then
    -- It would be barred by the next look; so the token is good still.
    perform refuse('CD403', 'name', shown(enrol.name) || ' is revoked', 'take another name, or lift it: cordon revocations lift');
  end if;
  expires_at := clock_timestamp() + token.life;
  seconds := extract(epoch from token.life);
  role := cordon_logins.make_login('worker', right(token.role, 16), enrol.verifier, expires_at);
  insert into principal (role, tenant, queues, kind, expires_at, added_by)
  values (role, token.tenant, token.queues, 'service', expires_at, token.made_by);
  insert into enrolment (role, name, token, life) values (role, enrol.name, token.role, token.life);
  update join_token t set used_at = clock_timestamp() where t.role = token.role;
  perform cordon_logins.bar_login(token.role);
  insert into audit (what, detail) values ('worker_enrolled', jsonb_build_object('role', role, 'name', enrol.name,
    'token', token.role, 'tenant', token.tenant, 'queues', token.queues, 'expires_at', iso(expires_at)));
end
$$;

-- Identities that a kill is in force for.
create function revoked_enrolments() returns table (role name, reason text)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  return query
    select e.role, min(format('%s %s is revoked: %s', r.kind, r.target, r.reason))
    from revoked r join enrolment e on r.kind = 'principal' and r.target = e.role::text
      or r.kind = 'worker' and (r.target = e.name
        or exists (select from worker w where w.role = e.role and r.target in (w.name, w.id::text)))
    where r.mode = 'kill' group by e.role;
end
$$;

-- A later end and another password for the identity that this session logged in with. Sessions that are open go on.
create function renew(verifier text, out expires_at timestamptz, out seconds float8)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me enrolment;
begin
  perform require_read_committed();
  select * into me from enrolment e where e.role = session_user for update;
  if not found then
    perform refuse('42501', 'identity', shown(session_user::text) || ' has not been enrolled', 'cordon workers invite');
  elsif me.barred_at is not null or exists (select from revoked_enrolments() r where r.role = me.role) then
    perform refuse('CD403', 'identity', me.role || ' is revoked', 'enrol anew: cordon workers invite');
  elsif is_expired(me.role) then
    perform refuse('CD403', 'identity', me.role || ' has expired', 'enrol anew: cordon workers invite');
  end if;
  expires_at := clock_timestamp() + me.life;
  seconds := extract(epoch from me.life);
  perform cordon_logins.set_login(me.role, renew.verifier, expires_at);
  update principal p set expires_at = renew.expires_at where p.role = me.role;
  update enrolment e set renewed_at = clock_timestamp(), renewals = e.renewals + 1 where e.role = me.role;
end
$$;

-- Takes a token back that nobody has used.
create function withdraw_join_token(role text) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp set lock_timeout = '5s' as $$
#variable_conflict use_column
declare
  token join_token;
begin
  perform require_read_committed();
  if not exists (select from join_token t where t.role = withdraw_join_token.role) then
    perform refuse('CD404', 'token', shown(withdraw_join_token.role) || ' is unknown', 'cordon workers invitations lists them');
  end if;
  perform cordon_logins.end_sessions(withdraw_join_token.role::name);
  select * into token from join_token t where t.role = withdraw_join_token.role for update;
  if token.used_at is not null then
    perform refuse('22023', 'token', token.role || ' was used at ' || iso(token.used_at),
      'stop whom it made: cordon revoke principal cordon_worker_' || right(token.role, 16) || ' --mode kill');
  elsif token.withdrawn_at is null then
    update join_token t set withdrawn_at = clock_timestamp() where t.role = token.role;
    perform cordon_logins.bar_login(token.role);
    insert into audit (what, detail) values ('join_token_withdrawn', jsonb_build_object('role', token.role));
  end if;
end
$$;

create function join_tokens() returns setof jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return query
    select jsonb_build_object('role', t.role, 'tenant', t.tenant, 'queues', t.queues,
      'life_seconds', extract(epoch from t.life), 'expires_at', iso(t.expires_at), 'made_at', iso(t.made_at),
      'made_by', t.made_by, 'used_at', iso(t.used_at), 'withdrawn_at', iso(t.withdrawn_at),
      'worker', e.name, 'worker_role', e.role, 'worker_state', case when e.barred_at is not null then 'barred'
        when p.expires_at <= clock_timestamp() then 'expired' when e.role is not null then 'enrolled' end,
      'worker_expires_at', iso(p.expires_at), 'renewed_at', iso(e.renewed_at), 'renewals', e.renewals,
      'state', case when t.used_at is not null then 'used' when t.withdrawn_at is not null then 'withdrawn'
        when t.expires_at <= clock_timestamp() then 'expired' else 'open' end)
    from join_token t left join enrolment e on e.token = t.role left join principal p on p.role = e.role
    order by t.made_at desc, t.role;
end
$$;

select change_function('workers()', '''state'', case', '''enrolled'', exists (select from enrolment e where e.role = w.role),
    ''identity_expires_at'', (select iso(p.expires_at) from principal p where p.role = w.role), ''state'', case');

select change_function(c.name, c.before, c.after) from (values
  -- The end of an identity is its renewals'.
  ('limit_principal(text, text, timestamptz, int, float8, bigint)', 'expires_at = limit_principal.expires_at,',
    'expires_at = coalesce(limit_principal.expires_at, case when exists (select from enrolment e where e.role = p.role) then p.expires_at end),'),
  -- A kill names workers by the name they enrolled with.
  ('register_worker(text, text, text, text[], int, float8, text[], text[])', 'select * into me from principal p where p.role = session_user;',
    'if exists (select from enrolment e where e.role = session_user and e.name <> register_worker.name) then
    perform refuse(''42501'', ''name'', format(''%s enrolled as %s, not as %s'', session_user,
        (select shown(e.name) from enrolment e where e.role = session_user), shown(register_worker.name)),
      ''start it with --name as it enrolled, or have it enrol anew: cordon workers invite'');
  end if;
  select * into me from principal p where p.role = session_user;')
) c (name, before, after);

revoke all on function check_reach(text, text[]), create_join_token(text, text[], interval, interval, text), enrol(text, text),
  revoked_enrolments(), renew(text), withdraw_join_token(text), join_tokens() from public;
grant execute on function create_join_token(text, text[], interval, interval, text), withdraw_join_token(text) to cordon_operator;
grant execute on function join_tokens() to cordon_operator, cordon_auditor;
grant execute on function renew(text) to cordon_worker;
