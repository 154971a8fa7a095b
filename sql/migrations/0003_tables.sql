-- What is stored. A job never changes and its state is no column: it is `ready`, `scheduled` or leased because a row
-- says so in the table of that name, and finished because a final attempt says so. The tables that change all the
-- time are narrow; the wide ones only grow, and are partitioned by id, which is by time, so that retention is a DROP.
-- There are no foreign keys to `queue` and `policy`: every enqueue would lock the same two rows, and only the
-- functions below write here.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

create sequence fencing_token;

-- Who may act. A producer has a tenant; a worker without one serves every tenant. `queues` null means all.
create table principal (
  role name primary key,
  tenant text check (tenant ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
  queues text[],
  added_at timestamptz not null default clock_timestamp(),
  added_by name not null default session_user
);

create table queue (
  id smallint generated always as identity primary key,
  name text not null unique check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
  added_at timestamptz not null default clock_timestamp(),
  added_by name not null default session_user
);

-- Immutable documents named by the digest of their bytes, and which of them was in force when.
create table policy (
  digest text primary key check (digest = 'sha256:' || encode(sha256(convert_to(document, 'UTF8')), 'hex')),
  document text not null,
  added_at timestamptz not null default clock_timestamp(),
  added_by name not null default session_user
);

create table policy_in_force (
  id bigint generated always as identity primary key,
  digest text not null references policy,
  since timestamptz not null default clock_timestamp(),
  added_by name not null default session_user
);

create table job (
  id uuid not null default uuid7(),
  tenant text not null,
  queue smallint not null,
  priority smallint not null,
  specification jsonb not null,
  limits jsonb not null,
  policy text not null,
  max_attempts smallint not null,
  margin_ms bigint not null,
  key text,
  run_at timestamptz,
  enqueued_at timestamptz not null default clock_timestamp(),
  enqueued_by name not null default session_user,
  primary key (id)
) partition by range (id);

-- One row a finished attempt. `final` is false where the job went back to the queue. `via` is the function that
-- wrote the row: only `complete` states what a worker saw.
create table attempt (
  job uuid not null,
  attempt smallint not null,
  final boolean not null,
  via text not null check (via in ('complete', 'release', 'rescue', 'cancel')),
  tenant text not null,
  queue smallint not null,
  outcome text not null check (outcome in (
    'succeeded', 'failed', 'signaled', 'timed_out', 'out_of_memory', 'output_limit', 'cancelled', 'lost', 'refused')),
  exit_code int,
  signal int,
  reason text,
  notes jsonb,
  result jsonb,
  stdout jsonb,
  stderr jsonb,
  usage jsonb,
  artifacts jsonb,
  quarantined jsonb,
  published text,
  code text,
  inputs jsonb,
  isolation jsonb,
  token bigint,
  worker bigint,
  worker_name text,
  worker_role name,
  host text,
  build text,
  started_at timestamptz,
  finished_at timestamptz not null default clock_timestamp(),
  recorded_by name not null default session_user,
  primary key (job, attempt)
) partition by range (job);

-- What an attempt wrote to its streams, one sequence over both.
create table log_chunk (
  job uuid not null,
  attempt smallint not null,
  sequence bigint not null,
  stream text not null check (stream in ('stdout', 'stderr')),
  at timestamptz not null default clock_timestamp(),
  bytes bytea not null,
  primary key (job, attempt, sequence)
) partition by range (job);

-- Waiting jobs: rows come and go and never change. `attempt` counts the attempts that are over.
create table ready (
  queue smallint not null,
  priority smallint not null,
  job uuid not null,
  tenant text not null,
  attempt smallint not null,
  primary key (queue, priority, job)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

create table scheduled (
  run_at timestamptz not null,
  job uuid not null unique,
  queue smallint not null,
  priority smallint not null,
  tenant text not null,
  attempt smallint not null,
  primary key (run_at, job)
);

-- Free space in every page, enough for the attribution that `start` adds to each row, and no index on what changes, so
-- that start and cancel are HOT updates. `attribution` is what the worker knew when the attempt began.
create table lease (
  job uuid primary key,
  token bigint not null,
  worker bigint not null,
  attempt smallint not null,
  queue smallint not null,
  priority smallint not null,
  tenant text not null,
  claimed_at timestamptz not null default clock_timestamp(),
  started_at timestamptz,
  deadline_at timestamptz not null,
  cancel boolean not null default false,
  attribution jsonb
) with (fillfactor = 10,
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
create index lease_worker on lease (worker);

-- One heartbeat row a worker, never a job; half of each page is free for its HOT updates.
create table worker (
  id bigint generated always as identity primary key,
  role name not null default session_user,
  name text not null,
  host text not null,
  build text not null,
  queues smallint[] not null,
  slots int not null,
  lease_seconds float8 not null,
  idle boolean not null default false,
  registered_at timestamptz not null default clock_timestamp(),
  seen_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

create table idempotency (
  tenant text not null,
  key text not null,
  payload bytea not null,
  job uuid not null,
  primary key (tenant, key)
);

create table blob (
  tenant text not null,
  digest text not null,
  bytes bigint not null,
  added_at timestamptz not null default clock_timestamp(),
  added_by name not null default session_user,
  primary key (tenant, digest)
);

create table blob_chunk (
  tenant text not null,
  digest text not null,
  sequence int not null,
  bytes bytea not null,
  primary key (tenant, digest, sequence)
);
alter table blob_chunk alter column bytes set storage external;

create table audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  who name not null default session_user,
  what text not null,
  job uuid,
  attempt smallint,
  worker bigint,
  detail jsonb
);
create index audit_job on audit (job) where job is not null;

-- What was recorded stays as it was, for the owner too.
create function refuse_change() returns trigger
language plpgsql security definer set search_path = cordon, pg_temp as $$
begin
  raise exception using errcode = '42501',
    message = format('%s: rows are never changed or removed; %s refused', tg_table_name, lower(tg_op));
end
$$;

do $$
declare
  recorded text;
begin
  foreach recorded in array array['job', 'attempt', 'log_chunk', 'audit', 'policy', 'policy_in_force', 'schema_version']
  loop
    execute format('create trigger keep before update or delete on %I for each row execute function refuse_change()',
      recorded);
    execute format('create trigger keep_all before truncate on %I for each statement execute function refuse_change()',
      recorded);
  end loop;
end
$$;
