-- Jobs that wait for jobs. A job enqueued `after` others is `blocked` until all of them are over; then it waits like any
-- other. Fan-out is several jobs after one, fan-in one job after several; the completion job of a batch is that. What
-- happens when one of those it waits for does not succeed is its own to say: `on_failure` is `cancel` (the job is over as
-- cancelled, and so are those that wait for it) or `run` (a job that cleans up, or reports). An attempt that is tried
-- again is not the end of its job: only a final attempt counts.
--
-- Who unblocks: whoever records a final attempt, in the same statement, by a trigger on `attempt`. Two jobs may end at
-- once that a third one waits for, each in a transaction that does not see the other: so the blocked row is locked first,
-- and what is left to wait for is counted in a later statement, which sees what the other has committed by then.
--
-- And a job may end while the transaction that enqueues its successor is still open: neither sees the other. The
-- successor looks again as its transaction commits (a deferred trigger); what ends in the moment that the commit itself
-- takes is found by `rescue`, which looks at the dependencies of the last minute. No lock is held for that, so an open
-- transaction of a producer holds up no worker.
--
-- What parents made is an input of their children: {"result": JOB} is the result document, {"artifact": "JOB/PATH"} a file
-- that the final attempt published. The worker reads both under its lease, and checks the digest that was recorded.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

create table blocked (
  job uuid primary key,
  queue smallint not null,
  lane int not null,
  rank bigint not null,
  run_at timestamptz,
  on_failure text not null check (on_failure in ('cancel', 'run'))
);

-- One row for each job that a blocked one still waits for.
create table dependency (
  parent uuid not null,
  child uuid not null,
  noted_at timestamptz not null default clock_timestamp(),
  primary key (parent, child)
);
create index dependency_child on dependency (child);
create index dependency_noted on dependency (noted_at);

-- Frees or cancels what waited for these jobs, which are over.
create function settle(parents uuid[]) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  children uuid[];
  doomed uuid[];
  queues smallint[];
begin
  children := array(select distinct d.child from dependency d where d.parent = any (parents));
  if children = '{}' then
    return;
  end if;
  -- In one order, so that two who settle do not wait for each other.
  perform from blocked b where b.job = any (children) order by b.job for update;
  doomed := array(
    select b.job from blocked b where b.job = any (children) and b.on_failure = 'cancel' and exists (
      select from dependency d join attempt a on a.job = d.parent and a.final
      where d.child = b.job and d.parent = any (parents) and a.outcome <> 'succeeded'));
  delete from dependency d where d.parent = any (parents) or d.child = any (doomed);
  with gone as (
    delete from blocked b where b.job = any (doomed) returning b.job, b.queue
  )
  -- Their own children follow by the trigger.
  insert into attempt (job, attempt, final, via, tenant, queue, outcome, reason)
  select g.job, 1, true, 'cancel', j.tenant, g.queue, 'cancelled', 'a job that it waited for did not succeed'
  from gone g cross join lateral (select * from job where job.id = g.job offset 0) j;
  with free as (
    delete from blocked b where b.job = any (children)
      and not exists (select from dependency d where d.child = b.job)
    returning *
  ), placed as (
    insert into ready (queue, lane, rank, job, attempt)
    select f.queue, f.lane, f.rank, f.job, 0 from free f where coalesce(f.run_at <= clock_timestamp(), true)
    returning queue
  ), later as (
    insert into scheduled (run_at, job, queue, lane, rank, attempt)
    select f.run_at, f.job, f.queue, f.lane, f.rank, 0 from free f where f.run_at > clock_timestamp()
  )
  select array_agg(distinct p.queue) into queues from placed p;
  perform wake(q) from unnest(queues) q;
end
$$;

create function settle_ended() returns trigger
language plpgsql security definer set search_path = cordon, pg_temp as $$
declare
  parents uuid[];
begin
  -- One look into an index that is empty for those who use no workflows.
  parents := array(select e.job from ended e where e.final and exists (
    select from dependency d where d.parent = e.job));
  if parents <> '{}' then
    perform settle(parents);
  end if;
  return null;
end
$$;
create trigger settle after insert on attempt referencing new table as ended
  for each statement execute function settle_ended();

create function is_over(id uuid) returns boolean
language sql stable security definer set search_path = cordon, pg_temp as $$
  select exists (select from attempt a where a.job = id and a.final)
$$;

create function look_again() returns trigger
language plpgsql security definer set search_path = cordon, pg_temp as $$
begin
  update dependency d set noted_at = clock_timestamp() where d.parent = new.parent and d.child = new.child;
  if found and is_over(new.parent) then
    perform settle(array[new.parent]);
  end if;
  return null;
end
$$;
create constraint trigger look_again after insert on dependency deferrable initially deferred
  for each row execute function look_again();

-- What ended in the moment that somebody's commit took.
create function settle_missed(most int) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  parents uuid[];
begin
  parents := array(
    select distinct d.parent from dependency d
    where d.noted_at > clock_timestamp() - interval '1 minute' and is_over(d.parent) limit most);
  if parents <> '{}' then
    perform settle(parents);
  end if;
end
$$;

-- As in 0007, and what a job of this tenant made.
create or replace function check_source(field text, source jsonb, tenant text) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  known constant text[] := array['text', 'blob', 'path', 'result', 'artifact'];
  kinds text[];
  word text;
  parent text;
begin
  if jsonb_typeof(source) = 'object' then
    kinds := array(select jsonb_object_keys(source));
  end if;
  if kinds is null or cardinality(kinds) <> 1 or not kinds <@ known then
    perform refuse('22023', field, 'must be an object with exactly one of ' || array_to_string(known, ', '));
  end if;
  field := field || '.' || kinds[1];
  if jsonb_typeof(source -> kinds[1]) <> 'string' then
    perform refuse('22023', field, shown(source -> kinds[1]) || ' is no string');
  end if;
  word := source ->> kinds[1];
  if kinds[1] = 'path' then
    if octet_length(word) not between 1 and 4095 or word ~ '(^|/)([.]{0,2})(/|$)' then
      perform refuse('22023', field, shown(word) || ' is no relative path without . and ..',
        'name a file beneath the input root of the workers');
    end if;
  elsif kinds[1] = 'blob' then
    if word !~ '^sha256:[0-9a-f]{64}$' then
      perform refuse('22023', field, shown(word) || ' is no digest; write sha256: and 64 lower-case hex digits');
    elsif not exists (select from blob b where b.tenant = check_source.tenant and b.digest = word) then
      perform refuse('22023', field, word || ' is not stored for this tenant', 'put it first with cordon.put_blob');
    end if;
  elsif kinds[1] in ('result', 'artifact') then
    parent := substring(word from '^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})'
      || case kinds[1] when 'result' then '$' else '/.' end);
    if parent is null then
      perform refuse('22023', field, shown(word) || case kinds[1] when 'result' then ' is no id of a job'
        else ' is not the id of a job, a slash and the path of one of its artifacts' end);
    elsif not exists (select from job j where j.id = parent::uuid and j.tenant = check_source.tenant) then
      perform refuse('22023', field, format('there is no job %s', parent));
    end if;
  end if;
end
$$;

-- What a job made, for the holder of a lease on a job whose specification names it as an input: its final attempt, and
-- nothing at all while it is not over.
create function read_made(worker bigint, job uuid, token bigint, parent uuid)
returns table (attempt int, outcome text, result text, artifacts text)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(read_made.worker);
  owner text;
begin
  select l.tenant into owner
  from lease l cross join lateral (select * from job where job.id = l.job offset 0) j
  where l.job = read_made.job and l.token = read_made.token and l.worker = me.id and exists (
    select from jsonb_each(coalesce(nullif(j.specification -> 'inputs', 'null'), '{}')
      || jsonb_build_object('', coalesce(nullif(j.specification -> 'code', 'null'), '{}'))) i
    where i.value ->> 'result' = read_made.parent::text
      or left(i.value ->> 'artifact', 37) = read_made.parent::text || '/');
  if not found then
    perform refuse('42501', 'input', format('no lease of worker %s is on a job that names %s', me.id,
      read_made.parent));
  end if;
  return query
    select a.attempt::int, a.outcome, a.result::text, coalesce(a.artifacts, '[]')::text from attempt a
    where a.job = read_made.parent and a.tenant = owner and a.final;
end
$$;

grant execute on function read_made(bigint, uuid, bigint, uuid) to cordon_worker;

do $$
declare
  pinned text;
  setting text;
begin
  foreach pinned in array array['settle(uuid[])', 'settle_ended()', 'settle_missed(int)', 'is_over(uuid)',
    'read_made(bigint, uuid, bigint, uuid)']
  loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
  end loop;
end
$$;
