-- What a principal is and how much it may: a person, a service or an agent, until when, how many jobs an hour, how many
-- processor seconds a day. Who may nothing any more is revoked (0036), with what waits and what runs.
--
-- A budget is a sum over rows that are written beside the jobs, never a counter: nothing leaks, and what a transaction took back is not
-- counted. For who has a budget of jobs, one enqueue at a time is let through until its transaction ends; else as many at once as
-- there are sessions could each spend all of it. They wait for a row of their own, which nobody else locks. Principals without a budget
-- write nothing and wait for nobody.
--
-- Processor time is known when an attempt is over. Who has used up a day's budget may not enqueue, and its jobs that wait are put off by
-- the claim that meets them until enough of the day is past, ten minutes at a time, because a budget may be raised.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

alter table principal
  add column kind text not null default 'service' check (kind in ('person', 'service', 'agent')),
  add column expires_at timestamptz,
  add column jobs_per_hour int check (jobs_per_hour >= 0),
  add column cpu_seconds_per_day float8 check (cpu_seconds_per_day >= 0);

create index principal_expiry on principal (expires_at) where expires_at is not null;
create index principal_cpu on principal (role) where cpu_seconds_per_day is not null;

create table spending (
  id bigint generated always as identity primary key,
  role name not null,
  at timestamptz not null default clock_timestamp(),
  jobs int not null default 0,
  cpu_seconds float8 not null default 0
);
create index spending_of on spending (role, at);

-- What enqueues of a principal with a budget of jobs wait for.
create table purse (role name primary key);

create function limit_principal(
  role text, kind text, expires_at timestamptz, jobs_per_hour int, cpu_seconds_per_day float8) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  if not coalesce(limit_principal.kind in ('person', 'service', 'agent'), false) then
    perform refuse('22023', 'kind', shown(limit_principal.kind) || ' is unknown; use person, service or agent');
  elsif limit_principal.jobs_per_hour < 0 or limit_principal.cpu_seconds_per_day < 0
    or limit_principal.cpu_seconds_per_day > 1e12 then
    perform refuse('22023', 'budget', 'must be 0 or more; leave it out for none');
  elsif not isfinite(limit_principal.expires_at) then
    perform refuse('22023', 'expires_at', 'must be a finite time');
  end if;
  update principal p set kind = limit_principal.kind, expires_at = limit_principal.expires_at,
    jobs_per_hour = limit_principal.jobs_per_hour, cpu_seconds_per_day = limit_principal.cpu_seconds_per_day
  where p.role = limit_principal.role;
  if not found then
    perform refuse('CD404', 'principal', shown(limit_principal.role) || ' is unknown');
  end if;
  insert into audit (what, detail) values ('principal_limited', jsonb_build_object('role', limit_principal.role,
    'kind', limit_principal.kind, 'expires_at', iso(limit_principal.expires_at),
    'jobs_per_hour', limit_principal.jobs_per_hour, 'cpu_seconds_per_day', limit_principal.cpu_seconds_per_day));
  insert into purse (role) values (limit_principal.role) on conflict do nothing;
  -- What was held for an expiry is judged anew.
  perform settle_policies();
end
$$;

-- Until when a principal has used up its processor time, or a little longer than now where it has none at all; null where it has not.
create or replace function put_off_until(principal name) returns timestamptz
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  budget constant float8 := (select p.cpu_seconds_per_day from principal p where p.role = put_off_until.principal);
  until timestamptz;
begin
  if budget is null then
    return null;
  end if;
  -- The latest row that fills the budget with those behind it: when it is a day old, less than the budget is left.
  select s.at + interval '1 day' into until
  from (
    select x.at, sum(x.cpu_seconds) over (order by x.at desc, x.id desc) as since
    from spending x where x.role = put_off_until.principal and x.at > clock_timestamp() - interval '1 day' and x.cpu_seconds > 0) s
  where s.since >= budget order by s.at desc limit 1;
  if until is null and budget > 0 then
    return null;
  end if;
  -- Not for longer, because a budget may be raised.
  return least(until, clock_timestamp() + interval '10 minutes');
end
$$;

-- After attempts: what they used, of principals with a budget.
create function spend_cpu(jobs uuid[], usages jsonb[]) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
declare
  spenders name[];
begin
  with used as (
    -- A worker's word: what is no number counts for nothing, and nobody is charged more than a year of a large machine.
    select j.enqueued_by, sum(case when jsonb_typeof(g.usage -> 'cpu_seconds') = 'number'
      then least(greatest((g.usage ->> 'cpu_seconds')::numeric, 0), 1e9)::float8 else 0 end) as cpu
    from unnest(jobs, usages) g (job, usage) cross join lateral (select * from job where job.id = g.job offset 0) j
    join principal p on p.role = j.enqueued_by and p.cpu_seconds_per_day is not null
    group by j.enqueued_by
  ), noted as (
    insert into spending (role, cpu_seconds) select u.enqueued_by, u.cpu from used u where u.cpu > 0
    returning role
  )
  select array_agg(n.role) into spenders from noted n;
  perform forget_spending(spenders);
end
$$;

-- Rows that no budget looks at any more.
create function forget_spending(roles name[]) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
begin
  delete from spending where ctid = any (array(
    select s.ctid from spending s where s.role = any (roles) and s.at < clock_timestamp() - interval '1 day' limit 1000
    for update skip locked));
end
$$;

-- Lets a principal put so many more jobs in, or refuses.
create function spend_jobs(me principal, count int) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
declare
  hour_ago constant timestamptz := clock_timestamp() - interval '1 hour';
  used bigint;
  first timestamptz;
begin
  if me.cpu_seconds_per_day is not null and put_off_until(me.role) is not null then
    perform refuse('CD429', 'principal', format('%s has used its %s processor seconds a day',
      shown(me.role::text), me.cpu_seconds_per_day), 'cordon principals shows what is used');
  elsif me.jobs_per_hour is null then
    return;
  end if;
  perform require_read_committed();
  perform from purse b where b.role = me.role for update;
  select coalesce(sum(s.jobs), 0), min(s.at) into used, first
  from spending s where s.role = me.role and s.at > hour_ago and s.jobs > 0;
  if used + count > me.jobs_per_hour then
    perform refuse('CD429', 'principal', format('%s has put in %s of its %s jobs an hour, and these are %s',
      shown(me.role::text), used, me.jobs_per_hour, count),
      'room comes back from ' || coalesce(iso(first + interval '1 hour'), 'a larger budget'));
  end if;
  insert into spending (role, jobs) values (me.role, count);
  perform forget_spending(array[me.role]);
end
$$;

create function principals() returns setof jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return query
    select jsonb_build_object('role', p.role, 'kind', p.kind, 'tenant', p.tenant, 'queues', p.queues,
      'first_priority', p.first_priority, 'expires_at', iso(p.expires_at), 'jobs_per_hour', p.jobs_per_hour,
      'jobs_this_hour', (select coalesce(sum(s.jobs), 0) from spending s
        where s.role = p.role and s.at > clock_timestamp() - interval '1 hour'),
      'cpu_seconds_per_day', p.cpu_seconds_per_day, 'cpu_seconds_this_day', (
        select coalesce(sum(s.cpu_seconds), 0) from spending s
        where s.role = p.role and s.at > clock_timestamp() - interval '1 day'),
      'state', case
        when exists (select from revoked r where r.kind = 'principal' and r.target = p.role::text) then 'revoked'
        when p.expires_at <= clock_timestamp() then 'expired'
        when put_off_until(p.role) is not null then 'spent' else 'active' end,
      'added_at', iso(p.added_at), 'added_by', p.added_by)
    from principal p order by p.role;
end
$$;

create function is_expired(of_role name) returns boolean
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return exists (select from principal p where p.role = of_role and p.expires_at <= clock_timestamp());
end
$$;

-- Why a job may not start: something of it is revoked, or whoever asked for it has expired. `policy` may be that of an attempt.
create or replace function barred_because(tenant text, principal name, policy text, job uuid, specification jsonb) returns text
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  return coalesce((
    select format('revoked: %s %s by %s: %s', r.kind, r.target, r.set_by, r.reason) from revoked r
    where (r.kind, r.target) in (('tenant', barred_because.tenant), ('principal', barred_because.principal::text),
        ('policy', barred_because.policy), ('job', barred_because.job::text))
      or r.kind = 'code' and r.target = code_digest(barred_because.specification)
    order by r.kind, r.target limit 1), (
    select format('principal: %s expired at %s', p.role, iso(p.expires_at)) from principal p
    where p.role = barred_because.principal and p.expires_at <= clock_timestamp()));
end
$$;

create or replace function is_anybody_barred() returns boolean
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return exists (select from revoked) or exists (select from principal p where p.expires_at <= clock_timestamp())
    or exists (select from principal p where p.cpu_seconds_per_day is not null);
end
$$;

-- By its name, its number or its role, in whatever mode.
create or replace function is_barred(me worker) returns boolean
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return is_expired(me.role) or exists (
    select from revoked r
    where (r.kind, r.target) in (('worker', me.name), ('worker', me.id::text), ('principal', me.role::text)));
end
$$;

do $$
declare
  change record;
  definition text;
begin
  for change in
    select * from (values
      ('enqueue_jobs(principal, text, text, jsonb[], text, timestamptz, int, timestamptz, text, uuid[], text, uuid, uuid)',
        'perform refuse_revoked(me, rules.digest);',
        E'perform refuse_revoked(me, rules.digest);\n  perform spend_jobs(me, cardinality(specifications));'),
      ('refuse_revoked(principal, text)', 'select r.kind', E'if is_expired(me.role) then
    perform refuse(''42501'', ''principal'', format(''%s expired at %s'', shown(me.role::text), iso(me.expires_at)));
  end if;
  select r.kind'),
      ('register_worker(text, text, text, text[], int, float8, text[], text[])', 'if exists (select from revoked r where',
        'if is_expired(session_user) or exists (select from revoked r where'),
      ('register_worker(text, text, text, text[], int, float8, text[], text[])', 'of role %s is revoked''', 'of role %s is revoked or has expired'''),
      ('fire_schedule(text, text, bigint, timestamptz[], timestamptz, timestamptz, timestamptz, timestamptz)',
        E'or sqlstate ''CD503'' then', E'or sqlstate ''CD503'' or sqlstate ''CD429'' then'),
      ('settle_ended()', 'return null;',
        E'if exists (select from principal p where p.cpu_seconds_per_day is not null) then
    perform spend_cpu(array_agg(e.job), array_agg(e.usage)) from ended e where e.usage is not null;
  end if;
  return null;')
    ) c (of, before, after)
  loop
    definition := pg_get_functiondef(change.of::regprocedure);
    if strpos(definition, change.before) = 0 then
      raise exception '% has no %', change.of, change.before;
    end if;
    execute replace(definition, change.before, change.after);
  end loop;
end
$$;

-- A producer that keeps its purse in an open transaction keeps its own schedules waiting, and nobody else's.
alter function fire_schedule(text, text, bigint, timestamptz[], timestamptz, timestamptz, timestamptz, timestamptz)
  set lock_timeout = '1s';

grant execute on function limit_principal(text, text, timestamptz, int, float8) to cordon_operator;
grant execute on function principals() to cordon_operator, cordon_auditor;

do $$
declare
  pinned text;
  setting text;
begin
  foreach pinned in array array['barred_because(text, name, text, uuid, jsonb)', 'spend_jobs(principal, int)',
    'spend_cpu(uuid[], jsonb[])', 'forget_spending(name[])', 'put_off_until(name)']
  loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
  end loop;
end
$$;
