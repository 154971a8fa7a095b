-- Who goes first, and how much at once.
--
-- Waiting jobs of a queue stand in lanes: one a tenant, and one more for each `lane` that its producers name (a customer,
-- a table that bears one writer). A claim serves some lanes after another, each with a share by its tenant's weight, and
-- the next claim goes on behind them, so a tenant with a million jobs costs one with ten of them no more than its share.
--
-- Within a lane the order is `rank`: milliseconds since 1970 at which the job could have started, and for each step of
-- priority the queue's ageing on top (10 minutes unless an operator says otherwise). So a job of priority 9 waits at most
-- 90 minutes longer than all of priority 0 would make it, and nothing starves; no row is ever updated for that. A job keeps
-- its rank when it comes back.
--
-- Limits on what runs are counted in the leases at the moment of the claim, under the lock of the row that states the
-- limit, so there is no counter that could leak. A rate is a bucket of tokens in the lane's row, which refills by the
-- database's clock. A lane whose row another claim has locked is passed over: its holder serves it.
--
-- How a claim finds lanes. Stepping from lane to lane through the index costs a descent a lane, and so does taking from one,
-- so a claim looks at 16 at most and takes a share from each, not one job from each of very many (`ops/bench queue` prints
-- `lanes_over_one`). Rows that are deleted but still visible to an old snapshot cannot be skipped by the index: a claim that starts at the front
-- reads all of them again. So the worker says which lanes gave it jobs, and from which rank on it has not looked, and asks
-- for a look at the rest only as often as that is cheap (`LaneCursor`).

set local role cordon_owner;
set local search_path = cordon, pg_temp;

alter table queue
  add column state text not null default 'open' check (state in ('open', 'paused', 'draining')),
  add column ageing_ms bigint not null default 600000 check (ageing_ms between 0 and 2592000000),
  add column max_running int check (max_running >= 0);

-- What operators say about tenants; one that is not here has weight 1 and no limit.
create table tenant (
  name text primary key check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
  weight smallint not null default 1 check (weight between 1 and 100),
  max_running int check (max_running >= 0)
);

-- `key` is '' for the tenant's own lane.
create table lane (
  id int generated always as identity primary key,
  queue smallint not null,
  tenant text not null,
  key text not null default '' check (octet_length(key) <= 255),
  max_running int check (max_running >= 0),
  rate float8 check (rate > 0),
  burst float8 check (burst >= 1),
  tokens float8,
  filled_at timestamptz,
  unique (queue, tenant, key)
);

alter table job
  add column lane int,
  add column rank bigint;

-- Where a job of before stands: jobs never change, so the columns stay empty and this says what they would hold.
create function place(j job, out lane int, out rank bigint)
language sql stable security definer set search_path = cordon, pg_temp as $$
  select coalesce(j.lane, (select l.id from lane l where l.queue = j.queue and l.tenant = j.tenant and l.key = '')),
    coalesce(j.rank, micros(j.enqueued_at) / 1000 + j.priority * 600000)
$$;

insert into lane (queue, tenant)
select distinct queue, tenant from (
  select queue, tenant from ready union all select queue, tenant from scheduled union all select queue, tenant from lease
) w;

alter table ready rename to ready_before;
alter table scheduled rename to scheduled_before;
create table ready (
  queue smallint not null,
  lane int not null,
  rank bigint not null,
  job uuid not null,
  attempt smallint not null,
  constraint ready_key primary key (queue, lane, rank, job)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
create table scheduled (
  run_at timestamptz not null,
  job uuid not null,
  queue smallint not null,
  lane int not null,
  rank bigint not null,
  attempt smallint not null,
  constraint scheduled_key primary key (run_at, job),
  constraint scheduled_job unique (job)
);
insert into ready select r.queue, p.lane, p.rank, r.job, r.attempt
  from ready_before r join job j on j.id = r.job cross join lateral place(j) p;
insert into scheduled select s.run_at, s.job, s.queue, p.lane, p.rank, s.attempt
  from scheduled_before s join job j on j.id = s.job cross join lateral place(j) p;
drop table ready_before, scheduled_before;

alter table lease add column lane int, add column rank bigint;
update lease l set (lane, rank) = (select p.lane, p.rank from job j cross join lateral place(j) p where j.id = l.job);
alter table lease alter column lane set not null, alter column rank set not null, drop column priority;

-- Workers that have found less than they asked for: one row a queue, until somebody enqueues there. A producer takes one row
-- and notifies; one that finds none, or only rows that others are taking, does not. So a NOTIFY, which takes a lock that the
-- whole cluster shares until commit, is sent as often as workers fall idle and not as often as jobs come (`ops/bench queue`
-- prints `notify_over_none`). A note in the worker's own row is seen by every producer until the worker claims again: each
-- of them then notified, and they waited for each other's commits. A row that is locked by a producer's open transaction is passed over by everybody.
create table idle (
  queue smallint not null,
  worker bigint not null,
  until timestamptz not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);

create or replace function wake(queue_id smallint) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
begin
  delete from idle where ctid = any (array(
    select i.ctid from idle i where i.queue = queue_id and i.until > clock_timestamp() limit 1 for update skip locked));
  if found then
    perform pg_notify('cordon_ready', (select q.name from queue q where q.id = queue_id));
  end if;
end
$$;

-- The lane of that name, made when it is first used. Whoever makes it at the same time waits for the other's commit once.
create function open_lane(queue_id smallint, tenant text, key text) returns int
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  found_id int;
begin
  if octet_length(open_lane.key) > 255 then
    perform refuse('22023', 'lane', format('%s bytes; at most 255 are allowed', octet_length(open_lane.key)));
  end if;
  loop
    select l.id into found_id from lane l
    where l.queue = queue_id and l.tenant = open_lane.tenant and l.key = open_lane.key;
    if found then
      return found_id;
    end if;
    insert into lane (queue, tenant, key) values (queue_id, open_lane.tenant, open_lane.key)
    on conflict do nothing returning id into found_id;
    if found then
      return found_id;
    end if;
  end loop;
end
$$;

-- Due rows of `scheduled` become `ready`.
create or replace function promote(most int) returns int
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
declare
  moved smallint[];
begin
  with due as (
    delete from scheduled where ctid = any (array(
      select ctid from scheduled where run_at <= clock_timestamp() order by run_at limit most for update skip locked))
    returning *
  ), placed as (
    insert into ready (queue, lane, rank, job, attempt)
    select queue, lane, rank, job, attempt from due returning queue
  )
  select array_agg(queue) into moved from placed;
  if moved is null then
    return 0;
  end if;
  perform wake(q) from (select distinct q from unnest(moved) q) d;
  return cardinality(moved);
end
$$;

-- How many more jobs of a lane may start now; null is no limit. Locks what states the limits until the claim commits; a
-- row that another claim has locked gives none.
create function lane_allowance(lane_id int, queue_id smallint, owner text) returns int
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  most int;
  bound int;
  bucket lane;
begin
  select t.max_running into bound from tenant t where t.name = owner and t.max_running is not null
  for update skip locked;
  if found then
    most := greatest(0, bound - (select count(*) from lease l where l.tenant = owner)::int);
  elsif exists (select from tenant t where t.name = owner and t.max_running is not null) then
    return 0;
  end if;
  select * into bucket from lane l where l.id = lane_id and (l.max_running is not null or l.rate is not null)
  for update skip locked;
  if not found then
    return case when exists (
      select from lane l where l.id = lane_id and (l.max_running is not null or l.rate is not null)) then 0 else most end;
  end if;
  if bucket.max_running is not null then
    most := least(most, greatest(0, bucket.max_running - (select count(*) from lease l where l.lane = lane_id)::int));
  end if;
  if bucket.rate is not null then
    -- least() passes over null, which an unused bucket has.
    most := least(most, floor(bucket_level(bucket))::int);
  end if;
  return most;
end
$$;

-- Tokens that are in a lane's bucket now; a new one is full.
create function bucket_level(l lane) returns float8
language sql volatile security definer set search_path = cordon, pg_temp as $$
  select least(coalesce(l.burst, greatest(l.rate, 1)), coalesce(
    l.tokens + l.rate * greatest(0, extract(epoch from clock_timestamp() - l.filled_at)),
    coalesce(l.burst, greatest(l.rate, 1))))
$$;

create function take_tokens(lane_id int, used int) returns void
language sql volatile security definer set search_path = cordon, pg_temp as $$
  update lane l set tokens = bucket_level(l) - used, filled_at = clock_timestamp()
  where l.id = lane_id and l.rate is not null and used > 0
$$;

-- The next lanes of a queue with somebody waiting, behind `after`, at most so many.
create function lanes_behind(queue_id smallint, after int, most int) returns setof int
language plpgsql stable security definer set search_path = cordon, pg_temp
set plan_cache_mode = force_generic_plan as $$
begin
  return query with recursive found (lane, number) as (
    (select r.lane, 1 from ready r where r.queue = queue_id and r.lane > after order by r.queue, r.lane limit 1)
    union all
    select (select r.lane from ready r where r.queue = queue_id and r.lane > f.lane order by r.queue, r.lane limit 1),
      f.number + 1
    from found f where f.lane is not null and f.number < most
  )
  select f.lane from found f where f.lane is not null;
end
$$;

-- What operators do with queues. `paused`: nothing is claimed, what runs goes on. `draining`: nothing is taken in, what waits
-- is still run. `open`: neither.
create function set_queue(name text, state text) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  changed smallint;
begin
  if not coalesce(set_queue.state in ('open', 'paused', 'draining'), false) then
    perform refuse('22023', 'state', shown(set_queue.state) || ' is unknown; use open, paused or draining');
  end if;
  update queue q set state = set_queue.state where q.name = set_queue.name returning q.id into changed;
  if not found then
    perform refuse('22023', 'queue', shown(set_queue.name) || ' is unknown');
  end if;
  insert into audit (what, detail) values ('queue_set',
    jsonb_build_object('queue', set_queue.name, 'state', set_queue.state));
  if set_queue.state <> 'paused' then
    perform wake(changed);
  end if;
end
$$;

-- Limits on how many jobs run at once; null takes one away. 0 lets none start.
create function limit_queue(name text, max_running int, ageing interval default null) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  if limit_queue.max_running < 0 then
    perform refuse('22023', 'max_running', format('%s is negative', limit_queue.max_running));
  elsif limit_queue.ageing < interval '0' or limit_queue.ageing > interval '30 days' then
    perform refuse('22023', 'ageing', 'is not 0 to 30 days');
  end if;
  update queue q set max_running = limit_queue.max_running,
    ageing_ms = coalesce((extract(epoch from limit_queue.ageing) * 1000)::bigint, q.ageing_ms)
  where q.name = limit_queue.name;
  if not found then
    perform refuse('22023', 'queue', shown(limit_queue.name) || ' is unknown');
  end if;
  insert into audit (what, detail) values ('queue_limited', jsonb_build_object('queue', limit_queue.name,
    'max_running', limit_queue.max_running, 'ageing', limit_queue.ageing));
end
$$;

create function limit_tenant(name text, max_running int, weight int default 1) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  if limit_tenant.max_running < 0 then
    perform refuse('22023', 'max_running', format('%s is negative', limit_tenant.max_running));
  elsif not coalesce(limit_tenant.weight between 1 and 100, false) then
    perform refuse('22023', 'weight', format('%s is not 1 to 100', coalesce(limit_tenant.weight::text, 'null')));
  elsif coalesce(limit_tenant.name !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$', true) then
    perform refuse('22023', 'tenant', shown(limit_tenant.name) || ' is no name of a tenant');
  end if;
  insert into tenant (name, max_running, weight)
  values (limit_tenant.name, limit_tenant.max_running, limit_tenant.weight)
  on conflict (name) do update set max_running = excluded.max_running, weight = excluded.weight;
  insert into audit (what, detail) values ('tenant_limited', jsonb_build_object('tenant', limit_tenant.name,
    'max_running', limit_tenant.max_running, 'weight', limit_tenant.weight));
end
$$;

-- Of one lane: how many run at once, and how many may start a second, on average and in a burst.
create function limit_lane(
  queue text, tenant text, lane text, max_running int, per_second float8 default null, burst float8 default null
) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  queue_id constant smallint := (select q.id from queue q where q.name = limit_lane.queue);
  lane_id int;
begin
  if queue_id is null then
    perform refuse('22023', 'queue', shown(limit_lane.queue) || ' is unknown');
  elsif limit_lane.max_running < 0 then
    perform refuse('22023', 'max_running', format('%s is negative', limit_lane.max_running));
  elsif not (limit_lane.per_second > 0 and limit_lane.per_second <= 1000000) then
    perform refuse('22023', 'per_second', format('%s is not more than 0 and at most 1000000', limit_lane.per_second));
  elsif not (limit_lane.burst >= 1 and limit_lane.burst <= 1000000) then
    perform refuse('22023', 'burst', format('%s is not 1 to 1000000', limit_lane.burst));
  elsif limit_lane.burst is not null and limit_lane.per_second is null then
    perform refuse('22023', 'burst', 'is of a rate; give per_second');
  elsif coalesce(limit_lane.tenant !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$', true) then
    perform refuse('22023', 'tenant', shown(limit_lane.tenant) || ' is no name of a tenant');
  end if;
  lane_id := open_lane(queue_id, limit_lane.tenant, coalesce(limit_lane.lane, ''));
  update lane l set max_running = limit_lane.max_running, rate = limit_lane.per_second, burst = limit_lane.burst,
    tokens = null, filled_at = null
  where l.id = lane_id;
  insert into audit (what, detail) values ('lane_limited', jsonb_build_object('queue', limit_lane.queue,
    'tenant', limit_lane.tenant, 'lane', limit_lane.lane, 'max_running', limit_lane.max_running,
    'per_second', limit_lane.per_second, 'burst', limit_lane.burst));
end
$$;

grant execute on function set_queue(text, text), limit_queue(text, int, interval), limit_tenant(text, int, int),
  limit_lane(text, text, text, int, float8, float8) to cordon_operator;
