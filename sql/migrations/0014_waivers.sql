-- Workers that lack a control, and workers that stopped by themselves. What a worker says at its registration that it
-- lacks stands in its row and does not change; it is registered only where the policy in force waives all of it, and
-- given only jobs whose own policy does. A worker whose canary found that a control no longer holds says so before it
-- leaves: it is given nothing any more, and its row stays for a day to be looked at, the audit row for good.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

alter table worker
  add column missing text[] not null default '{}',
  add column drained_at timestamptz,
  add column drained_reason text;

drop function register_worker(text, text, text, text[], int, float8);

create function register_worker(
  name text, host text, build text, queues text[], slots int, lease_seconds float8, missing text[] default '{}')
returns bigint
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  rules constant policy := current_policy();
  me principal;
  ids smallint[] := '{}';
  wanted text;
  worker_id bigint;
begin
  if not coalesce(octet_length(register_worker.name) between 1 and 128
    and octet_length(register_worker.host) between 1 and 255 and octet_length(register_worker.build) <= 255, false) then
    perform refuse('22023', 'name',
      'a worker has a name of 1 to 128 bytes, a host of 1 to 255 and a build of at most 255');
  elsif not coalesce(register_worker.slots between 1 and 10000, false) then
    perform refuse('22023', 'slots', format('%s is not 1 to 10000', coalesce(register_worker.slots::text, 'null')));
  elsif not coalesce(register_worker.lease_seconds between 0.1 and 3600, false) then
    perform refuse('22023', 'lease_seconds', format('%s is not 0.1 to 3600',
      coalesce(register_worker.lease_seconds::text, 'null')));
  elsif coalesce(cardinality(register_worker.queues), 0) = 0 then
    perform refuse('22023', 'queues', 'is empty; name the queues to serve');
  elsif register_worker.missing is null or array_position(register_worker.missing, null) is not null then
    perform refuse('22023', 'missing', 'must be an array of names of controls');
  end if;
  foreach wanted in array register_worker.missing loop
    if wanted <> all (waivable_controls()) then
      perform refuse('42501', 'missing', shown(wanted) || ' is no control that a policy can waive');
    elsif wanted <> all (waived_controls(rules.document)) then
      perform refuse('42501', 'missing', shown(wanted) || ' is not waived by the policy in force',
        'an operator names it in "waivers" with cordon policy set');
    end if;
  end loop;
  select * into me from principal p where p.role = session_user;
  foreach wanted in array register_worker.queues loop
    ids := ids || open_queue(me, wanted);
  end loop;
  insert into worker (name, host, build, queues, slots, lease_seconds, missing)
  values (register_worker.name, register_worker.host, register_worker.build,
    array(select distinct i from unnest(ids) i), register_worker.slots, register_worker.lease_seconds,
    array(select distinct m from unnest(register_worker.missing) m order by m))
  returning id into worker_id;
  insert into audit (what, worker, detail) values ('registered', worker_id, jsonb_build_object(
    'name', register_worker.name, 'host', register_worker.host, 'build', register_worker.build,
    'queues', to_jsonb(register_worker.queues), 'slots', register_worker.slots,
    'lease_seconds', register_worker.lease_seconds, 'missing', to_jsonb(register_worker.missing)));
  return worker_id;
end
$$;

-- As in 0009, and: nothing for a worker that has stopped, and for one that lacks controls only jobs of policies that
-- waive them. Such a worker looks at each waiting job's policy, and passes over those it may not run.
create or replace function claim(worker bigint, most int) returns table (
  job uuid, attempt int, token bigint, tenant text, queue text, enqueued_by name, specification jsonb, limits jsonb,
  policy text, document text, params text)
language plpgsql volatile security definer set search_path = cordon, pg_temp
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(claim.worker);
  mine principal;
  q record;
  -- Policies whose jobs this worker may run; null is all.
  allowed text[];
  wanted int := least(greatest(most, 0), me.slots);
  got int;
begin
  select * into mine from principal p where p.role = session_user;
  if me.missing <> '{}' then
    allowed := array(select p.digest from policy p where me.missing <@ waived_controls(p.document));
  end if;
  if allowed = '{}' or me.drained_at is not null then
    wanted := 0;
  end if;
  perform promote(greatest(100, wanted));
  for q in
    select id, name from queue
    where id = any (me.queues) and (mine.queues is null or name = any (mine.queues)) order by random()
  loop
    exit when wanted = 0;
    return query
      with taken as (
        delete from ready where ctid = any (array(
          select r.ctid from ready r
          where r.queue = q.id and (mine.tenant is null or r.tenant = mine.tenant)
            and (allowed is null or (select j.policy from job j where j.id = r.job) = any (allowed))
          order by r.queue, r.priority, r.job limit wanted for update skip locked))
        returning *
      ), leased as (
        insert into lease (job, token, worker, attempt, queue, priority, tenant, deadline_at)
        select t.job, nextval('fencing_token'), me.id, t.attempt + 1, t.queue, t.priority, t.tenant,
          clock_timestamp() + attempt_time(j)
        from taken t cross join lateral (select * from job where job.id = t.job offset 0) j
        returning *
      )
      select l.job, l.attempt::int, l.token, l.tenant, q.name, j.enqueued_by, j.specification, j.limits, j.policy,
        (select p.document from policy p where p.digest = j.policy),
        nullif(j.specification -> 'params', 'null')::text
      from leased l cross join lateral (select * from job where job.id = l.job offset 0) j
      order by l.priority, l.job;
    get diagnostics got = row_count;
    wanted := wanted - got;
  end loop;
  update worker w set idle = (wanted > 0), seen_at = clock_timestamp()
  where w.id = me.id and (w.idle is distinct from (wanted > 0)
    or w.seen_at < clock_timestamp() - make_interval(secs => w.lease_seconds / 4));
end
$$;

-- A worker says that it has stopped by itself, and why. The first reason stands.
create function report_drained(worker bigint, reason text) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(report_drained.worker);
  why constant text := left(regexp_replace(report_drained.reason, '[\s[:cntrl:]]+', ' ', 'g'), 1000);
begin
  update worker w set drained_at = clock_timestamp(), drained_reason = coalesce(why, 'unknown'), idle = false
  where w.id = me.id and w.drained_at is null;
  if found then
    insert into audit (what, worker, detail)
    values ('drained', me.id, jsonb_build_object('name', me.name, 'host', me.host, 'reason', why));
  end if;
end
$$;

-- As in 0009, but the row of a worker that stopped by itself stays, until a rescue forgets it after a day of silence.
create or replace function retire_worker(worker bigint) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(retire_worker.worker);
  holds constant boolean := exists (select from lease l where l.worker = me.id);
begin
  delete from worker w where w.id = me.id and me.drained_at is null and not holds;
  update worker w set idle = false,
    seen_at = case when holds or me.drained_at is null then '-infinity' else w.seen_at end
  where w.id = me.id;
  insert into audit (what, worker, detail)
  values ('retired', me.id, jsonb_build_object('name', me.name, 'host', me.host));
end
$$;

-- The workers the database knows, the newest first. `state`: `serving`, `drained` by itself with the reason, `silent`
-- for longer than its lease.
create function workers() returns setof jsonb
language sql stable security definer set search_path = cordon, pg_temp as $$
  select jsonb_build_object('worker', w.id, 'name', w.name, 'role', w.role, 'host', w.host, 'build', w.build,
    'queues', (select coalesce(jsonb_agg(q.name order by q.name), '[]') from queue q where q.id = any (w.queues)),
    'slots', w.slots, 'running', (select count(*) from lease l where l.worker = w.id), 'missing', to_jsonb(w.missing),
    'state', case when w.drained_at is not null then 'drained'
      when w.seen_at < clock_timestamp() - make_interval(secs => w.lease_seconds) then 'silent' else 'serving' end,
    'drained_at', iso(w.drained_at), 'drained_reason', w.drained_reason, 'registered_at', iso(w.registered_at),
    'seen_at', case when isfinite(w.seen_at) then iso(w.seen_at) end)
  from worker w order by w.id desc
$$;

grant execute on function register_worker(text, text, text, text[], int, float8, text[]),
  report_drained(bigint, text) to cordon_worker;
grant execute on function workers() to cordon_operator, cordon_auditor;

-- CREATE OR REPLACE forgets what 0012 set.
do $$
declare
  setting text;
begin
  foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
    execute format('alter function claim(bigint, int) set %I = off', setting);
  end loop;
end
$$;
