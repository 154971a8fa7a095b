-- Which credentials an attempt was given, by name and version, never the secret. A worker has each taken down before it uses it, and
-- uses none that is not: so the database says at that moment that the attempt is held, and afterwards what there is to be ended.
--
-- What is put into requests, and tokens, are over with the lease. A login outlives it for as long as nobody ends it; `ended_at` is when
-- its server has said that it is gone, to whoever ended it: the worker itself, or any other when that one has died.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

create table credential_given (
  job uuid not null,
  attempt smallint not null,
  credential text not null check (octet_length(credential) between 1 and 63),
  version text not null check (octet_length(version) between 1 and 255),
  kind text not null check (kind in ('request', 'token', 'login')),
  token bigint not null,
  at timestamptz not null default clock_timestamp(),
  ended_at timestamptz,
  -- Of a login: which server it is on, since only that one can say that it is gone.
  place text check (octet_length(place) <= 1024),
  primary key (job, attempt, credential, version)
) partition by range (job);
create table credential_given_default partition of credential_given default;
-- Logins that are to be ended, by the name of their role.
create index login_given on credential_given (version) where kind = 'login' and ended_at is null;

alter table credential_given enable row level security;
grant select on credential_given to cordon_reader;
create policy of_own_tenant on credential_given for select to cordon_reader
  using (exists (select from job j where j.id = credential_given.job));

-- False where the worker does not hold the attempt, or has to stand still: then nothing may be used.
create function give_credential(worker bigint, job uuid, token bigint, credential text, kind text, version text, place text)
returns boolean
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(give_credential.worker);
  held smallint;
begin
  select l.attempt into held from lease l
  where l.job = give_credential.job and l.token = give_credential.token and l.worker = me.id and not l.cancel and not l.frozen;
  if not found then
    return false;
  end if;
  insert into credential_given (job, attempt, credential, version, kind, token, place)
  values (give_credential.job, held, give_credential.credential, give_credential.version, give_credential.kind, give_credential.token,
    give_credential.place)
  on conflict do nothing;
  return true;
end
$$;

-- Logins of these names are gone from their servers. A worker with a tenant speaks for that tenant's alone.
create function logins_ended(worker bigint, roles text[]) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(logins_ended.worker);
  mine constant text := (select p.tenant from principal p where p.role = session_user);
begin
  update credential_given g set ended_at = clock_timestamp()
  where g.kind = 'login' and g.ended_at is null and g.version = any (logins_ended.roles)
    and (mine is null or exists (select from job j where j.id = g.job and j.tenant = mine));
end
$$;

-- Logins whose attempt is over and that nobody has said to be gone, the oldest first; of a worker's tenant, where it has one.
create function logins_left(worker bigint) returns table (credential text, role_name text, place text)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(logins_left.worker);
  mine constant text := (select p.tenant from principal p where p.role = session_user);
begin
  return query
    select g.credential, g.version, g.place from credential_given g
    where g.kind = 'login' and g.ended_at is null and not exists (select from lease l where l.job = g.job and l.token = g.token)
      and (mine is null or exists (select from job j where j.id = g.job and j.tenant = mine))
    order by g.at limit 1000;
end
$$;

-- What the attempts of a job were given.
create function credentials(job uuid) returns setof jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  j constant job := visible_job(credentials.job, sees_all());
begin
  return query
    select jsonb_build_object('attempt', g.attempt, 'credential', g.credential, 'version', g.version, 'kind', g.kind,
      'given_at', iso(g.at), 'ended_at', iso(coalesce(g.ended_at, case when g.kind <> 'login' then a.finished_at end)),
      'alive', case when g.kind = 'login' then g.ended_at is null else l.job is not null end)
    from credential_given g
    left join lease l on l.job = g.job and l.token = g.token
    left join attempt a on a.job = g.job and a.attempt = g.attempt
    where g.job = j.id order by g.attempt, g.at, g.credential;
end
$$;

-- Everything that can be used at this moment; `left` are logins that nobody has ended yet though their attempt is over.
create function live_credentials(most int default 1000) returns setof jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  if not coalesce(most between 1 and 100000, false) then
    perform refuse('22023', 'limit', format('%s is not 1 to 100000', coalesce(most::text, 'null')));
  end if;
  return query
    select jsonb_build_object('job', g.job, 'attempt', g.attempt, 'tenant', j.tenant, 'worker', w.name, 'credential', g.credential,
      'version', g.version, 'kind', g.kind, 'given_at', iso(g.at), 'left', l.job is null)
    from (
      select x.* from lease h join credential_given x on x.job = h.job and x.attempt = h.attempt and x.token = h.token
        and x.ended_at is null
      union
      select x.* from credential_given x where x.kind = 'login' and x.ended_at is null) g
    cross join lateral (select * from job where job.id = g.job offset 0) j
    left join lease l on l.job = g.job and l.token = g.token
    left join worker w on w.id = l.worker
    order by g.at limit most;
end
$$;

grant usage, create on schema cordon to cordon_reader;
select change_function(c.name, c.before, c.after) from (values
  -- Whoever is to end a login finds it by its job.
  ('kept_because(uuid, uuid)', 'when is_held(', 'when exists (select from credential_given g where g.job >= first_id and g.job < end_id
      and g.kind = ''login'' and g.ended_at is null) then ''a login is not ended''
    when is_held('),
  ('ensure_partitions(int)', '''egress_line'']', '''egress_line'', ''credential_given'']'),
  ('apply_retention()', 'array[''egress_line'', ''attempt'', ''job'']', 'array[''credential_given'', ''egress_line'', ''attempt'', ''job'']')
) c (name, before, after);
select ensure_partitions();

revoke all on function give_credential(bigint, uuid, bigint, text, text, text, text), logins_ended(bigint, text[]), logins_left(bigint),
  credentials(uuid), live_credentials(int) from public;
grant execute on function give_credential(bigint, uuid, bigint, text, text, text, text), logins_ended(bigint, text[]), logins_left(bigint)
  to cordon_worker;
grant execute on function credentials(uuid) to cordon_producer, cordon_operator, cordon_auditor;
grant execute on function live_credentials(int) to cordon_operator, cordon_auditor;

select pin_plans('give_credential(bigint, uuid, bigint, text, text, text, text)');
select pin_plans('logins_ended(bigint, text[])');
select pin_plans('logins_left(bigint)');
select pin_plans('credentials(uuid)');
select pin_plans('live_credentials(int)');

alter function credentials(uuid) owner to cordon_reader;
revoke create on schema cordon from cordon_reader;
