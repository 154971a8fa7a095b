-- What a principal's jobs may send out in a day, beside its jobs and its processor time. Egress is what leaves: bytes from jobs to where
-- their grants lead, as the broker counts them. What comes back is counted beside it, and bounded by grants alone.
--
-- As in 0037, what is used is a sum over rows. A worker reports what each of its attempts has sent since its last report, with each
-- heartbeat and once more at the attempt's end, and is told what is left to the principal. A report has a number, so that one which is
-- repeated counts once. On one worker all attempts of a principal share what is left; workers beside each other learn of each other's
-- by their next heartbeats, so a budget may be passed by what the others send within one of those.
--
-- Who has sent all of it puts no job with grants in, those that wait are put off, and what runs is denied by the broker.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

alter table principal add column egress_bytes_per_day bigint check (egress_bytes_per_day >= 0);
create index principal_egress on principal (role) where egress_bytes_per_day is not null;

alter table spending
  add column sent_bytes bigint not null default 0,
  add column received_bytes bigint not null default 0,
  -- Of a report of egress: the attempt's fencing token, and the number.
  add column token bigint,
  add column report bigint;
create unique index spending_once on spending (token, report);

-- What a principal may still send; null where that is not bounded.
create function egress_left(of_role name) returns bigint
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  budget constant bigint := (select p.egress_bytes_per_day from principal p where p.role = of_role);
begin
  if budget is null then
    return null;
  end if;
  return greatest(budget - (select coalesce(sum(s.sent_bytes), 0) from spending s
    where s.role = of_role and s.at > clock_timestamp() - interval '1 day'), 0);
end
$$;

create function asks_for_grants(specification jsonb) returns boolean
language plpgsql immutable security definer set search_path = cordon, pg_temp as $$
begin
  return jsonb_typeof(specification -> 'grants') = 'array' and specification -> 'grants' <> '[]';
end
$$;

-- Until when that job of a principal is put off. Where egress is used up, ten minutes at a time: a budget may be raised, and the first
-- bytes of a day ago come free again.
create function put_off_until(principal name, specification jsonb) returns timestamptz
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return greatest(put_off_until(principal), case when asks_for_grants(specification) then
    case when egress_left(principal) = 0 then clock_timestamp() + interval '10 minutes' end end);
end
$$;

create function refuse_spent_egress(me principal, specifications jsonb[]) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  if egress_left(me.role) = 0 and exists (select from unnest(specifications) s where asks_for_grants(s)) then
    perform refuse('CD429', 'principal', format('%s has used its %s bytes of egress a day',
      shown(me.role::text), me.egress_bytes_per_day), 'cordon principals shows what is used; a job without grants is taken');
  end if;
end
$$;

-- The number of an attempt that this worker holds, or held a minute ago: of its last moment there is still something to say. Null where
-- it is neither.
create function reporting_attempt(me worker, of_job uuid, of_token bigint) returns smallint
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return coalesce(
    (select l.attempt from lease l where l.job = of_job and l.token = of_token and l.worker = me.id),
    (select a.attempt from attempt a where a.job = of_job and a.token = of_token and a.worker = me.id
      and a.finished_at > clock_timestamp() - interval '1 minute'));
end
$$;

-- Makes one row of those of a minute that is over, so that a day is a short sum. A report of it that is repeated after that counts again.
-- A row has no more than any policy can grant: reports are workers' words, and their sum may be no number of this kind.
create function fold_egress(roles name[]) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
declare
  most constant bigint := 1125899906842624;
begin
  with old as (
    delete from spending where ctid = any (array(
      select s.ctid from spending s
      where s.role = any (roles) and s.at < date_trunc('minute', clock_timestamp() - interval '10 minutes') and s.token is not null
      limit 10000 for update skip locked))
    returning role, at, sent_bytes, received_bytes
  )
  insert into spending (role, at, sent_bytes, received_bytes)
  select o.role, max(o.at), least(sum(o.sent_bytes), most)::bigint, least(sum(o.received_bytes), most)::bigint
  from old o group by o.role, date_trunc('minute', o.at);
end
$$;

-- Keeps what attempts of this worker have sent and received since their last reports, and says what is left to their principals, with all of
-- it counted. A report of nothing asks. Of an attempt that is not the worker's it says nothing.
create function report_egress(
  worker bigint, jobs uuid[], tokens bigint[], reports bigint[], sent bigint[], received bigint[])
returns table (token bigint, egress_left bigint)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  -- A worker's word: no attempt is charged more than any policy can grant.
  most constant bigint := 1125899906842624;
  me constant worker := own_worker(report_egress.worker);
  spenders name[];
begin
  -- As many as a worker can have attempts.
  if greatest(cardinality(jobs), cardinality(tokens), cardinality(reports), cardinality(report_egress.sent),
    cardinality(report_egress.received)) > 10000
  then
    perform refuse('22023', 'jobs', 'are more than 10000');
  end if;
  if exists (select from principal p where p.egress_bytes_per_day is not null) then
    with noted as (
      insert into spending (role, sent_bytes, received_bytes, token, report)
      select j.enqueued_by, least(greatest(g.sent, 0), most), least(greatest(g.received, 0), most), g.token, g.report
      from unnest(jobs, tokens, reports, report_egress.sent, report_egress.received) g (job, token, report, sent, received)
      cross join lateral (select * from job where job.id = g.job offset 0) j
      join principal p on p.role = j.enqueued_by and p.egress_bytes_per_day is not null
      where (g.sent > 0 or g.received > 0) and reporting_attempt(me, g.job, g.token) is not null
      on conflict do nothing returning role
    )
    select array_agg(distinct n.role) into spenders from noted n;
    if spenders is not null then
      perform forget_spending(spenders);
      perform fold_egress(spenders);
    end if;
  end if;
  -- A sum over a day, so once for each of them.
  return query
    with asked as materialized (
      select g.token, j.enqueued_by as role
      from unnest(jobs, tokens) g (job, token) cross join lateral (select * from job where job.id = g.job offset 0) j
      where reporting_attempt(me, g.job, g.token) is not null
    ), spender as materialized (
      select r.role, egress_left(r.role) as amount from (select distinct a.role from asked a) r
    )
    select a.token, s.amount from asked a join spender s on s.role = a.role;
end
$$;

drop function limit_principal(text, text, timestamptz, int, float8);
-- As in 0037, with one bound more. Null keeps the kind: what somebody is does not change with what it may use.
create function limit_principal(
  role text, kind text, expires_at timestamptz, jobs_per_hour int, cpu_seconds_per_day float8,
  egress_bytes_per_day bigint default null) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  if limit_principal.kind not in ('person', 'service', 'agent') then
    perform refuse('22023', 'kind', shown(limit_principal.kind) || ' is unknown; use person, service or agent');
  elsif limit_principal.jobs_per_hour < 0 or limit_principal.cpu_seconds_per_day < 0
    or limit_principal.cpu_seconds_per_day > 1e12 or limit_principal.egress_bytes_per_day < 0
  then
    perform refuse('22023', 'budget', 'must be 0 or more; leave it out for none');
  elsif not isfinite(limit_principal.expires_at) then
    perform refuse('22023', 'expires_at', 'must be a finite time');
  end if;
  update principal p set kind = coalesce(limit_principal.kind, p.kind), expires_at = limit_principal.expires_at,
    jobs_per_hour = limit_principal.jobs_per_hour, cpu_seconds_per_day = limit_principal.cpu_seconds_per_day,
    egress_bytes_per_day = limit_principal.egress_bytes_per_day
  where p.role = limit_principal.role;
  if not found then
    perform refuse('CD404', 'principal', shown(limit_principal.role) || ' is unknown');
  end if;
  insert into audit (what, detail) values ('principal_limited', jsonb_build_object('role', limit_principal.role,
    'kind', limit_principal.kind, 'expires_at', iso(limit_principal.expires_at),
    'jobs_per_hour', limit_principal.jobs_per_hour, 'cpu_seconds_per_day', limit_principal.cpu_seconds_per_day,
    'egress_bytes_per_day', limit_principal.egress_bytes_per_day));
  insert into purse (role) values (limit_principal.role) on conflict do nothing;
  -- What was held for an expiry is judged anew.
  perform settle_policies();
end
$$;

select change_function(c.name, c.before, c.after) from (values
  ('principals()', '''state'', case', '''egress_bytes_per_day'', p.egress_bytes_per_day, ''egress_bytes_this_day'', (
        select coalesce(sum(s.sent_bytes), 0) from spending s
        where s.role = p.role and s.at > clock_timestamp() - interval ''1 day''),
      ''received_bytes_this_day'', (
        select coalesce(sum(s.received_bytes), 0) from spending s
        where s.role = p.role and s.at > clock_timestamp() - interval ''1 day''),
      ''state'', case'),
  ('principals()', 'when put_off_until(p.role) is not null then', 'when put_off_until(p.role) is not null or egress_left(p.role) = 0 then'),
  ('is_anybody_barred()', 'where p.cpu_seconds_per_day is not null)',
    'where p.cpu_seconds_per_day is not null or p.egress_bytes_per_day is not null)'),
  ('lease_rows(worker, text, tid[], jsonb)', 'put_off_until(j.enqueued_by)', 'put_off_until(j.enqueued_by, j.specification)'),
  ('lease_narrowed(worker, text, smallint, uuid[], smallint[], bigint)', 'put_off_until(j.enqueued_by)',
    'put_off_until(j.enqueued_by, j.specification)'),
  ('enqueue_jobs(principal, text, text, jsonb[], text, timestamptz, int, timestamptz, text, uuid[], text, uuid, uuid)',
    'perform spend_jobs(me, cardinality(specifications));',
    E'if me.egress_bytes_per_day is not null then
    perform refuse_spent_egress(me, specifications);
  end if;
  perform spend_jobs(me, cardinality(specifications));'),
  ('append_egress(bigint, uuid, bigint, text[])',
    E'  select x.attempt into held from lease x
  where x.job = append_egress.job and x.token = append_egress.token and x.worker = me.id;
  if not found then
    select a.attempt into held from attempt a
    where a.job = append_egress.job and a.token = append_egress.token and a.worker = me.id
      and a.finished_at > clock_timestamp() - interval ''1 minute'';
    if not found then
      return false;
    end if;
  end if;', E'  held := reporting_attempt(me, append_egress.job, append_egress.token);
  if held is null then
    return false;
  end if;')
) c (name, before, after);

revoke all on function egress_left(name), asks_for_grants(jsonb), put_off_until(name, jsonb), refuse_spent_egress(principal, jsonb[]),
  reporting_attempt(worker, uuid, bigint), fold_egress(name[]),
  report_egress(bigint, uuid[], bigint[], bigint[], bigint[], bigint[]),
  limit_principal(text, text, timestamptz, int, float8, bigint) from public;
grant execute on function limit_principal(text, text, timestamptz, int, float8, bigint) to cordon_operator;
grant execute on function report_egress(bigint, uuid[], bigint[], bigint[], bigint[], bigint[]) to cordon_worker;

select pin_plans(f) from unnest(array['egress_left(name)', 'put_off_until(name, jsonb)', 'fold_egress(name[])',
  'reporting_attempt(worker, uuid, bigint)', 'report_egress(bigint, uuid[], bigint[], bigint[], bigint[], bigint[])']) f;
