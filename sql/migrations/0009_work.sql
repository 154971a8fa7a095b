-- The worker's side up to the end of an attempt. A worker row belongs to the role that registered it and every call
-- checks that; a lease belongs to one claim by its fencing token, and every write for an attempt checks token and
-- worker. What ends an attempt is in the next file.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

create function register_worker(name text, host text, build text, queues text[], slots int, lease_seconds float8)
returns bigint
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
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
  end if;
  select * into me from principal p where p.role = session_user;
  foreach wanted in array register_worker.queues loop
    ids := ids || open_queue(me, wanted);
  end loop;
  insert into worker (name, host, build, queues, slots, lease_seconds)
  values (register_worker.name, register_worker.host, register_worker.build,
    array(select distinct i from unnest(ids) i), register_worker.slots, register_worker.lease_seconds)
  returning id into worker_id;
  insert into audit (what, worker, detail) values ('registered', worker_id, jsonb_build_object(
    'name', register_worker.name, 'host', register_worker.host, 'build', register_worker.build,
    'queues', to_jsonb(register_worker.queues), 'slots', register_worker.slots,
    'lease_seconds', register_worker.lease_seconds));
  return worker_id;
end
$$;

-- The worker, if this role registered it. The refusal has an SQLSTATE of its own, because a worker that was forgotten
-- can help itself: what it held is no longer its own, and it registers again.
create function own_worker(id bigint) returns worker
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me worker;
begin
  select * into me from worker w where w.id = own_worker.id and w.role = session_user;
  if not found then
    perform refuse('CD410', 'worker', format('role %s has registered no worker %s', shown(session_user::text),
      coalesce(own_worker.id::text, 'null')), 'register again');
  end if;
  return me;
end
$$;

-- Due rows of `scheduled` become `ready`.
create function promote(most int) returns int
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
declare
  moved smallint[];
begin
  with due as (
    delete from scheduled where ctid = any (array(
      select ctid from scheduled where run_at <= clock_timestamp() order by run_at limit most for update skip locked))
    returning *
  ), placed as (
    insert into ready (queue, priority, job, tenant, attempt)
    select queue, priority, job, tenant, attempt from due returning queue
  )
  select array_agg(queue) into moved from placed;
  perform wake(q) from (select distinct q from unnest(moved) q) d;
  return coalesce(cardinality(moved), 0);
end
$$;

-- Takes up to `most` jobs. The rows to take are named by ctid, so the plan is a TID scan whatever the statistics say.
-- Within a queue the order is priority, then id; the queues of a worker take turns by chance, so none starves.
-- A claim that finds less than it asked for marks the worker idle, which is what makes producers notify.
-- `params` is the text of what the job is to read: jsonb keeps every number as it was given, and a client's own numbers
-- may not.
create function claim(worker bigint, most int) returns table (
  job uuid, attempt int, token bigint, tenant text, queue text, enqueued_by name, specification jsonb, limits jsonb,
  policy text, document text, params text)
language plpgsql volatile security definer set search_path = cordon, pg_temp
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(claim.worker);
  mine principal;
  q record;
  wanted int := least(greatest(most, 0), me.slots);
  got int;
begin
  select * into mine from principal p where p.role = session_user;
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

-- The longest an attempt may hold its lease: what the job may take, and the policy's margin for everything around it.
create function attempt_time(j job) returns interval
language sql immutable security definer set search_path = cordon, pg_temp as $$
  select make_interval(
    secs => ((j.limits ->> 'wall_ms')::bigint + (j.limits ->> 'grace_ms')::bigint + j.margin_ms) / 1000.0)
$$;

-- The durable word that attempts begin; only jobs it returns may run. Asked twice, it answers the same.
-- `attributions` (StartAttribution: code, inputs, isolation) is what the record says while an attempt runs, and what it
-- will say if no report ever comes.
create function start(worker bigint, jobs uuid[], tokens bigint[], attributions text[]) returns setof uuid
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(start.worker);
  stranger text;
begin
  select a into stranger from unnest(attributions) a where jsonb_typeof(a::jsonb) <> 'object' limit 1;
  if found then
    perform refuse('22023', 'attribution', shown(stranger) || ' is no object');
  end if;
  return query
    with held as (
      select l.*, c.attribution::jsonb as known from unnest(jobs, tokens, attributions) as c (job, token, attribution)
      join lease l on l.job = c.job and l.token = c.token
      where l.worker = me.id and not l.cancel for update of l
    ), begun as (
      update lease l set started_at = clock_timestamp(), deadline_at = clock_timestamp() + attempt_time(j),
        attribution = h.known
      from held h cross join lateral (select * from job where job.id = h.job offset 0) j
      where l.job = h.job and h.started_at is null
      returning l.*
    ), noted as (
      insert into audit (what, job, attempt, worker, detail)
      select 'started', b.job, b.attempt, me.id, jsonb_build_object('token', b.token, 'host', me.host) from begun b
    )
    select h.job from held h;
end
$$;

-- One update a worker, and the jobs it should know about: to cancel, or no longer its own. A lease that the worker does
-- not name and never started is one whose claim it never heard of: it goes back to the queue, but not before an answer
-- that is merely slow would have come.
create function heartbeat(worker bigint, jobs uuid[], tokens bigint[]) returns table (token bigint, verdict text)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  slowest_answer constant float8 := 5;
  me worker;
  unheard uuid[];
  unheard_tokens bigint[];
begin
  update worker w set seen_at = clock_timestamp() where w.id = heartbeat.worker and w.role = session_user
  returning w.* into me;
  if not found then
    perform own_worker(heartbeat.worker);
  end if;
  select array_agg(u.job), array_agg(u.token) into unheard, unheard_tokens from (
    select l.job, l.token from lease l
    where l.worker = me.id and l.started_at is null
      and l.claimed_at < clock_timestamp() - make_interval(secs => greatest(me.lease_seconds, slowest_answer))
      and l.token <> all (coalesce(tokens, '{}'))
    for update skip locked) u;
  if unheard is not null then
    perform give_back(me, unheard, unheard_tokens, false, 'claim was never acknowledged');
  end if;
  return query
    select c.token, case when l.job is null then 'lost' else 'cancel' end
    from unnest(jobs, tokens) as c (job, token)
    left join lease l on l.job = c.job and l.token = c.token and l.worker = heartbeat.worker
    where l.job is null or l.cancel;
end
$$;

-- Leaves gracefully. A lease that is still held becomes the next rescue's, which needs the row to say whose it was.
create function retire_worker(worker bigint) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(retire_worker.worker);
begin
  delete from worker w where w.id = me.id and not exists (select from lease l where l.worker = me.id);
  update worker w set seen_at = '-infinity', idle = false where w.id = me.id;
  insert into audit (what, worker, detail)
  values ('retired', me.id, jsonb_build_object('name', me.name, 'host', me.host));
end
$$;

-- Keeps a piece of what the job wrote; false when the lease is gone. The same sequence number again changes nothing.
create function append_log(worker bigint, job uuid, token bigint, stream text, sequence bigint, bytes bytea)
returns boolean
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  most constant int := 1048576;
  me constant worker := own_worker(append_log.worker);
  held smallint;
begin
  if not coalesce(append_log.stream in ('stdout', 'stderr'), false) then
    perform refuse('22023', 'stream', shown(append_log.stream) || ' is not stdout or stderr');
  elsif not coalesce(octet_length(append_log.bytes) <= most, false) then
    perform refuse('22023', 'bytes', format('at most %s a piece', most));
  end if;
  select l.attempt into held from lease l
  where l.job = append_log.job and l.token = append_log.token and l.worker = me.id;
  if not found then
    return false;
  end if;
  insert into log_chunk (job, attempt, sequence, stream, bytes)
  values (append_log.job, held, append_log.sequence, append_log.stream, append_log.bytes) on conflict do nothing;
  return true;
end
$$;

-- Chunks of a blob, from chunk `first` on, for the holder of a lease on a job that names it.
create function read_blob(worker bigint, job uuid, token bigint, digest text, first int, most int) returns setof bytea
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(read_blob.worker);
  owner text;
begin
  select l.tenant into owner
  from lease l cross join lateral (select * from job where job.id = l.job offset 0) j
  where l.job = read_blob.job and l.token = read_blob.token and l.worker = me.id and (
    j.specification -> 'code' ->> 'blob' = read_blob.digest
    or exists (select from jsonb_each(coalesce(nullif(j.specification -> 'inputs', 'null'), '{}')) i
      where i.value ->> 'blob' = read_blob.digest));
  if not found then
    perform refuse('42501', 'blob', format('no lease of worker %s is on a job that names %s', me.id,
      shown(read_blob.digest)));
  end if;
  return query
    select c.bytes from blob_chunk c where c.tenant = owner and c.digest = read_blob.digest
      and c.sequence >= read_blob.first order by c.sequence limit read_blob.most;
end
$$;

-- What became of attempts that published directories, in the order asked. `published`: the attempt's record names what
-- it published. `dead`: the attempt is over, or the job is past it, and no record will name it. `open`: it runs, or has
-- not begun. `unknown`: no such job, or none this role may work on. One statement, so one snapshot: a lease that ends
-- meanwhile is seen either held or with its attempt's row.
create function attempt_published(worker bigint, jobs uuid[], attempts int[])
returns table (job uuid, attempt int, verdict text)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(attempt_published.worker);
  mine constant text := (select p.tenant from principal p where p.role = session_user);
begin
  return query
    select asked.job, asked.attempt, case
      when not exists (select from job j where j.id = asked.job and (mine is null or j.tenant = mine)) then 'unknown'
      when exists (select from attempt a where a.job = asked.job and a.attempt = asked.attempt
        and a.published is not null) then 'published'
      when exists (select from attempt a where a.job = asked.job and (a.attempt >= asked.attempt or a.final))
        or exists (select from lease l where l.job = asked.job and l.attempt > asked.attempt) then 'dead'
      else 'open' end
    from unnest(jobs, attempts) with ordinality asked (job, attempt, number) order by asked.number;
end
$$;

grant execute on function register_worker(text, text, text, text[], int, float8), claim(bigint, int),
  start(bigint, uuid[], bigint[], text[]), heartbeat(bigint, uuid[], bigint[]), retire_worker(bigint),
  append_log(bigint, uuid, bigint, text, bigint, bytea), read_blob(bigint, uuid, bigint, text, int, int),
  attempt_published(bigint, uuid[], int[]) to cordon_worker;
