-- Outputs on a disk. A policy may have one member more than 0013 says:
--
--   "outputs": {"on": "disk"}             /output is a filesystem of its own, of the size of limits.output, in a file on
--                                          the worker's disk; "memory", or absent, is the cell's memory
--
-- Not every host can make one, so a worker says at its registration what it offers, and is given only jobs whose own
-- policy asks for nothing else.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

alter table worker add column offers text[] not null default '{}';

-- What a policy can ask of a worker beyond the controls that every policy asks for.
create function offers_asked_for() returns text[]
language sql immutable security definer set search_path = cordon, pg_temp as $$
  select array['outputs.disk']
$$;

create function offers_needed(document text) returns text[]
language sql immutable strict security definer set search_path = cordon, pg_temp as $$
  select case document::jsonb -> 'outputs' ->> 'on' when 'disk' then array['outputs.disk'] else '{}' end
$$;

-- As in 0013, and `outputs`.
create or replace function check_policy(document jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  limits constant text[] := array(select n.name from limit_names() n);
  l record;
  warm constant jsonb := document -> 'warm' -> 'python3';
begin
  perform check_members('', document, array['ceilings', 'defaults', 'lease', 'runtimes', 'version'],
    array['outputs', 'waivers', 'warm']);
  if document -> 'version' <> '1' then
    perform refuse('22023', 'version', shown(document -> 'version') || ' is not 1');
  end if;
  perform check_words('runtimes', document -> 'runtimes', array['bash', 'exec', 'python3']);
  perform check_members('defaults', document -> 'defaults', limits);
  perform check_members('ceilings', document -> 'ceilings', limits);
  for l in
    select n.name, document -> 'defaults' -> n.name as usual,
      read_policy_limit('ceilings.' || n.name, n.kind, document -> 'ceilings' -> n.name) as most,
      read_policy_limit('defaults.' || n.name, n.kind, document -> 'defaults' -> n.name) as amount
    from limit_names() n
  loop
    if l.amount > l.most then
      perform refuse('22023', 'defaults.' || l.name, format('%s is over the ceiling of %s', shown(l.usual),
        document -> 'ceilings' ->> l.name));
    end if;
  end loop;
  perform check_members('lease', document -> 'lease', array['attempts', 'margin']);
  if read_policy_limit('lease.attempts', 'count', document -> 'lease' -> 'attempts') > 100 then
    perform refuse('22023', 'lease.attempts', shown(document -> 'lease' -> 'attempts') || ' is more than 100');
  end if;
  perform read_policy_limit('lease.margin', 'duration', document -> 'lease' -> 'margin');
  if document ? 'waivers' then
    perform check_words('waivers', document -> 'waivers', waivable_controls());
  end if;
  if document ? 'outputs' then
    perform check_members('outputs', document -> 'outputs', array['on']);
    if document -> 'outputs' -> 'on' not in ('"disk"', '"memory"') then
      perform refuse('22023', 'outputs.on', shown(document -> 'outputs' -> 'on') || ' is unknown; use memory or disk');
    end if;
  end if;
  if document ? 'warm' then
    perform check_members('warm', document -> 'warm', '{}', array['python3']);
  end if;
  if warm is not null then
    perform check_members('warm.python3', warm, array['mode'], array['imports']);
    if warm -> 'mode' <> '"interpreter"' then
      perform refuse('22023', 'warm.python3.mode', shown(warm -> 'mode') || ' is unknown; use interpreter');
    elsif warm ? 'imports' then
      perform check_words('warm.python3.imports', warm -> 'imports', null);
    end if;
  end if;
end
$$;

drop function register_worker(text, text, text, text[], int, float8, text[]);

-- As in 0014, and what the worker offers.
create function register_worker(
  name text, host text, build text, queues text[], slots int, lease_seconds float8, missing text[] default '{}',
  offers text[] default '{}')
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
  elsif register_worker.offers is null or array_position(register_worker.offers, null) is not null then
    perform refuse('22023', 'offers', 'must be an array of names');
  end if;
  foreach wanted in array register_worker.offers loop
    if wanted <> all (offers_asked_for()) then
      perform refuse('22023', 'offers', shown(wanted) || ' is nothing that a policy can ask for');
    end if;
  end loop;
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
  insert into worker (name, host, build, queues, slots, lease_seconds, missing, offers)
  values (register_worker.name, register_worker.host, register_worker.build,
    array(select distinct i from unnest(ids) i), register_worker.slots, register_worker.lease_seconds,
    array(select distinct m from unnest(register_worker.missing) m order by m),
    array(select distinct o from unnest(register_worker.offers) o order by o))
  returning id into worker_id;
  insert into audit (what, worker, detail) values ('registered', worker_id, jsonb_build_object(
    'name', register_worker.name, 'host', register_worker.host, 'build', register_worker.build,
    'queues', to_jsonb(register_worker.queues), 'slots', register_worker.slots,
    'lease_seconds', register_worker.lease_seconds, 'missing', to_jsonb(register_worker.missing),
    'offers', to_jsonb(register_worker.offers)));
  return worker_id;
end
$$;

-- As in 0014, and: only jobs whose policy asks for nothing that the worker does not offer.
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
  -- A worker that lacks nothing and offers everything is asked no further; one whose worst is that no policy asks for
  -- what it does not offer looks at no job's policy either.
  if me.missing <> '{}' or not offers_asked_for() <@ me.offers then
    allowed := array(select p.digest from policy p
      where me.missing <@ waived_controls(p.document) and offers_needed(p.document) <@ me.offers);
    if cardinality(allowed) = (select count(*) from policy) then
      allowed := null;
    end if;
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

-- As in 0014, and what each offers.
create or replace function workers() returns setof jsonb
language sql stable security definer set search_path = cordon, pg_temp as $$
  select jsonb_build_object('worker', w.id, 'name', w.name, 'role', w.role, 'host', w.host, 'build', w.build,
    'queues', (select coalesce(jsonb_agg(q.name order by q.name), '[]') from queue q where q.id = any (w.queues)),
    'slots', w.slots, 'running', (select count(*) from lease l where l.worker = w.id), 'missing', to_jsonb(w.missing),
    'offers', to_jsonb(w.offers),
    'state', case when w.drained_at is not null then 'drained'
      when w.seen_at < clock_timestamp() - make_interval(secs => w.lease_seconds) then 'silent' else 'serving' end,
    'drained_at', iso(w.drained_at), 'drained_reason', w.drained_reason, 'registered_at', iso(w.registered_at),
    'seen_at', case when isfinite(w.seen_at) then iso(w.seen_at) end)
  from worker w order by w.id desc
$$;

grant execute on function register_worker(text, text, text, text[], int, float8, text[], text[]) to cordon_worker;

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
