-- Putting work in. Who enqueues is the role of the session, and the tenant is the one an operator gave that role;
-- no argument can say otherwise. An enqueue runs in the producer's own transaction: it commits or vanishes with it.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

insert into queue (name) values ('default');

-- The row of the session's role; refuses a role no operator has added, or one without a tenant.
create function producer() returns principal
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  me principal;
begin
  select * into me from principal p where p.role = session_user;
  if me.tenant is null then
    perform refuse('42501', 'principal', format('role %s has no tenant', shown(session_user::text)),
      'an operator adds it with cordon.add_principal(role, tenant)');
  end if;
  return me;
end
$$;

-- The queue of that name if this principal may use it. A queue that is not open to it looks like one that is not there.
create function open_queue(me principal, name text) returns smallint
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  found_id smallint;
begin
  select q.id into found_id from queue q
  where q.name = open_queue.name and (me.queues is null or q.name = any (me.queues));
  if found_id is null then
    perform refuse('42501', 'queue', format('%s is unknown or not open to role %s', shown(name),
      shown(session_user::text)), 'an operator adds one with cordon.add_queue(name)');
  end if;
  return found_id;
end
$$;

-- Wakes workers, if one that lives has said it is idle. A NOTIFY takes a lock the whole cluster shares until commit,
-- so a busy queue sends none; a wake-up that is missed is found by the workers' polling.
create function wake(queue_id smallint) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
begin
  if exists (
    select from worker w
    where w.idle and w.seen_at > clock_timestamp() - make_interval(secs => w.lease_seconds)
      and queue_id = any (w.queues))
  then
    perform pg_notify('cordon_ready', (select q.name from queue q where q.id = queue_id));
  end if;
end
$$;

create function check_priority(priority int) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  if priority is null or priority not between 0 and 9 then
    perform refuse('22023', 'priority', format('%s is not 0 to 9; lower goes first', coalesce(priority::text, 'null')));
  end if;
end
$$;

-- Several jobs of one queue and priority; all or none. The ids come back in the order of the specifications and
-- sort in it too, so jobs of one call run first in, first out.
create function enqueue_jobs(
  base text, queue text, specifications jsonb[], key text, run_at timestamptz, priority int, first_id uuid
) returns uuid[]
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant principal := producer();
  queue_id constant smallint := open_queue(me, enqueue_jobs.queue);
  rules constant policy := current_policy();
  document constant jsonb := rules.document;
  begins constant bigint := micros(clock_timestamp());
  latest constant timestamptz := clock_timestamp() + interval '100 years';
  specification jsonb;
  i bigint;
  limits jsonb[] := '{}';
  ids uuid[] := '{}';
begin
  perform check_priority(enqueue_jobs.priority);
  if not isfinite(enqueue_jobs.run_at) then
    perform refuse('22023', 'run_at', 'must be a finite time');
  elsif enqueue_jobs.run_at > latest then
    perform refuse('22023', 'run_at', format('%s is more than 100 years away', iso(enqueue_jobs.run_at)));
  end if;
  for specification, i in select s.value, s.ordinality from unnest(specifications) with ordinality s (value) loop
    limits := limits || check_specification(
      replace(base, '#', (i - 1)::text), specification, me.tenant, document);
    ids := ids || case when i = 1 and first_id is not null then first_id else uuid7(begins + i - 1) end;
  end loop;
  insert into job (id, tenant, queue, priority, specification, limits, policy, max_attempts, margin_ms, key, run_at)
  select n.id, me.tenant, queue_id, enqueue_jobs.priority, n.specification, n.job_limits, rules.digest,
    (document -> 'lease' ->> 'attempts')::smallint, parse_duration(document -> 'lease' ->> 'margin'),
    enqueue_jobs.key, enqueue_jobs.run_at
  from unnest(ids, specifications, limits) n (id, specification, job_limits);
  if enqueue_jobs.run_at > clock_timestamp() then
    insert into scheduled (run_at, job, queue, priority, tenant, attempt)
    select enqueue_jobs.run_at, id, queue_id, enqueue_jobs.priority, me.tenant, 0 from unnest(ids) n (id);
  else
    insert into ready (queue, priority, job, tenant, attempt)
    select queue_id, enqueue_jobs.priority, id, me.tenant, 0 from unnest(ids) n (id);
    perform wake(queue_id);
  end if;
  return ids;
end
$$;

-- One job. With a key, the same request again (queue, specification and priority; not the time, which a retry cannot
-- repeat) returns the job of the first, and another request under that key is refused.
create function enqueue_job(
  queue text, specification jsonb, key text, run_at timestamptz, priority int, out job uuid, out created boolean)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant principal := producer();
  payload bytea;
  first record;
begin
  if octet_length(enqueue_job.key) not between 1 and 255 then
    perform refuse('22023', 'key', format('%s bytes; 1 to 255 are allowed', octet_length(enqueue_job.key)));
  end if;
  enqueue_job.job := uuid7();
  created := true;
  if enqueue_job.key is not null then
    perform check_shape('specification', enqueue_job.specification);
    payload := sha256(convert_to(
      concat_ws(E'\n', enqueue_job.queue, enqueue_job.priority, enqueue_job.specification), 'UTF8'));
    -- Whoever comes second waits here until the first has committed or has not.
    insert into idempotency (tenant, key, payload, job) values (me.tenant, enqueue_job.key, payload, enqueue_job.job)
    on conflict do nothing;
    created := found;
  end if;
  if created then
    perform enqueue_jobs('', enqueue_job.queue, array[enqueue_job.specification], enqueue_job.key,
      enqueue_job.run_at, enqueue_job.priority, enqueue_job.job);
    return;
  end if;
  select i.payload, i.job into strict first from idempotency i
  where i.tenant = me.tenant and i.key = enqueue_job.key;
  if first.payload <> payload then
    perform refuse('22023', 'key', format('%s was used for another request, job %s', shown(enqueue_job.key), first.job),
      'use a new key for a new request');
  end if;
  enqueue_job.job := first.job;
end
$$;

create function enqueue(
  queue text, specification jsonb, key text default null, run_at timestamptz default null, priority int default 4
) returns uuid
language sql volatile security definer set search_path = cordon, pg_temp as $$
  select job from enqueue_job(queue, specification, key, run_at, priority)
$$;

-- An empty array is no job and no error. One of rows and columns would come apart into a list nobody wrote.
create function enqueue_many(queue text, specifications jsonb[], priority int default 4) returns uuid[]
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
begin
  if specifications is null or array_ndims(specifications) > 1 then
    perform refuse('22023', 'specifications', 'must be an array of one dimension, one element a job');
  end if;
  return enqueue_jobs('specifications[#].', queue, specifications, null, null, priority, null);
end
$$;

-- Stores bytes under their digest, computed here; storing the same again changes nothing. Chunks keep a worker from
-- needing a blob's size in memory twice.
create function put_blob(bytes bytea) returns text
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  most constant int := 67108864;
  chunk constant int := 262144;
  me constant principal := producer();
  content constant bytea := put_blob.bytes;
  name constant text := 'sha256:' || encode(sha256(content), 'hex');
begin
  if content is null or octet_length(content) > most then
    perform refuse('22023', 'bytes', coalesce(octet_length(content)::text || ' bytes', 'null')
      || format('; at most %s are allowed', most));
  end if;
  insert into blob (tenant, digest, bytes) values (me.tenant, name, octet_length(content)) on conflict do nothing;
  if found then
    insert into blob_chunk (tenant, digest, sequence, bytes)
    select me.tenant, name, i, substring(content from i * chunk + 1 for chunk)
    from generate_series(0, (octet_length(content) - 1) / chunk) i where octet_length(content) > 0;
  end if;
  return name;
end
$$;

-- Operators say who acts for which tenant. A worker's role needs a row only where it is to be restricted.
create function add_principal(role text, tenant text, queues text[] default null) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  stranger text;
begin
  if not exists (select from pg_roles r where r.rolname = add_principal.role) then
    perform refuse('22023', 'role', shown(add_principal.role) || ' is no role of this cluster',
      'create it first: CREATE ROLE … LOGIN IN ROLE cordon_producer');
  elsif add_principal.tenant !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' then
    perform refuse('22023', 'tenant', shown(add_principal.tenant) || ' is no name of a tenant',
      'letters, digits, . _ and -, a letter or digit first, at most 63');
  elsif cardinality(add_principal.queues) = 0 then
    perform refuse('22023', 'queues', 'an empty list allows nothing; leave it out to allow every queue');
  end if;
  select n into stranger from unnest(add_principal.queues) n
  where not exists (select from queue q where q.name = n) limit 1;
  if found then
    perform refuse('22023', 'queues', shown(stranger) || ' is unknown');
  end if;
  insert into principal (role, tenant, queues) values (add_principal.role, add_principal.tenant, add_principal.queues)
  on conflict (role) do update set tenant = excluded.tenant, queues = excluded.queues,
    added_at = clock_timestamp(), added_by = session_user;
  insert into audit (what, detail) values ('principal_added', jsonb_build_object(
    'role', add_principal.role, 'tenant', add_principal.tenant, 'queues', add_principal.queues));
end
$$;

create function add_queue(name text) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  if coalesce(add_queue.name !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$', true) then
    perform refuse('22023', 'name', shown(add_queue.name) || ' is no name of a queue',
      'letters, digits, . _ and -, a letter or digit first, at most 63');
  end if;
  insert into queue (name) values (add_queue.name) on conflict do nothing;
  if found then
    insert into audit (what, detail) values ('queue_added', jsonb_build_object('queue', add_queue.name));
  end if;
end
$$;

grant execute on function enqueue(text, jsonb, text, timestamptz, int), enqueue_many(text, jsonb[], int),
  enqueue_job(text, jsonb, text, timestamptz, int), put_blob(bytea) to cordon_producer;
grant execute on function add_principal(text, text, text[]), add_queue(text) to cordon_operator;
