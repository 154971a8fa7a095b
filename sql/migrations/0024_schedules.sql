-- Jobs that come again. A schedule is a document of a tenant: when, what to run, and what to do when runs meet or were
-- missed. The database does not know calendars; workers compute instants and hand them in. There is no leader: every
-- worker looks for schedules that are due, and whoever hands in first has fired.
--
-- Exactly once is a comparison and a lock. Each change of a schedule, and each firing, gives it another `turn`. A worker
-- that hands in names the turn it computed with; under the row's lock a turn that has passed fires nothing, and what is
-- fired is committed with the next turn, or neither is. Only instants between `handled_at` and the clock are taken, so
-- none is fired a second time, whatever a worker computes.
--
-- A run is enqueued for the principal who set the schedule, with the rights it has by then: its queues, its tenant, the
-- policy in force. A worker says when, never what. The job's key is `schedule/NAME/INSTANT`, its labels are `schedule` and
-- `schedule_at`, and the audit trail has what was fired, skipped and refused.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

create sequence schedule_turn;

create table schedule (
  tenant text not null,
  name text not null check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
  document jsonb not null,
  -- How often the document was changed.
  revision int not null default 1,
  turn bigint not null default nextval('schedule_turn'),
  enabled boolean not null default true,
  -- When a worker is to look; null when there is nothing more to come.
  next_at timestamptz,
  -- Every instant up to here is settled.
  handled_at timestamptz not null default clock_timestamp(),
  -- The last instant of which a run was enqueued, and the last runs, of which at most 100 are remembered.
  last_at timestamptz,
  last_jobs uuid[] not null default '{}',
  -- Why the last firing enqueued less than was due, or why there will be no more.
  problem text,
  set_at timestamptz not null default clock_timestamp(),
  -- For whom its runs are enqueued.
  set_by name not null default session_user,
  primary key (tenant, name)
);
create index schedule_due on schedule (next_at) where enabled;

-- A specification with the labels that say where the job comes from.
create function scheduled_specification(specification jsonb, name text, instant timestamptz) returns jsonb
language sql stable security definer set search_path = cordon, pg_temp as $$
  select specification || jsonb_build_object('labels', coalesce(nullif(specification -> 'labels', 'null'), '{}')
    || jsonb_build_object('schedule', name, 'schedule_at', to_char(instant at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))
$$;

-- What the database uses of a document is judged here: the members there are, the queue, the priority, what to do about
-- overlaps, and the job. What is about time is judged by whoever computes it.
create function check_schedule(me principal, name text, document jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  members constant text[] := array['calendar', 'cron', 'ends', 'fold', 'gap', 'missed', 'overlap', 'priority', 'queue',
    'specification', 'starts', 'zone'];
  ways constant text[] := array['skip', 'queue', 'cancel_previous'];
  reserved constant text[] := array['schedule', 'schedule_at'];
  given jsonb;
  word text;
begin
  perform check_shape('schedule', document);
  select k.name into word from jsonb_object_keys(document) k (name) where k.name <> all (members) order by 1 limit 1;
  if found then
    perform refuse('22023', member('schedule', word), 'unknown member', 'the members are ' || array_to_string(members, ', '));
  end if;
  foreach word in array array['cron', 'zone'] loop
    if jsonb_typeof(document -> word) is distinct from 'string' then
      perform refuse('22023', word, 'is missing or no string');
    end if;
  end loop;
  if document ? 'overlap' and not coalesce(document ->> 'overlap' = any (ways), false) then
    perform refuse('22023', 'overlap', shown(document -> 'overlap') || ' is unknown; use '
      || array_to_string(ways, ', '));
  end if;
  if document ? 'queue' and jsonb_typeof(document -> 'queue') <> 'string' then
    perform refuse('22023', 'queue', shown(document -> 'queue') || ' is no string');
  end if;
  perform open_queue(me, coalesce(document ->> 'queue', 'default'));
  if document ? 'priority' then
    if not coalesce(document ->> 'priority' ~ '^[0-9]$' and jsonb_typeof(document -> 'priority') = 'number', false) then
      perform refuse('22023', 'priority', shown(document -> 'priority') || ' is not 0 to 9; lower goes first');
    elsif (document ->> 'priority')::int < me.first_priority then
      perform refuse('42501', 'priority', format('%s is more urgent than the %s that role %s may ask for',
        document ->> 'priority', me.first_priority, shown(me.role::text)));
    end if;
  end if;
  given := document -> 'specification';
  perform check_shape('specification', given);
  if jsonb_typeof(given -> 'labels') = 'object' and given -> 'labels' ?| reserved then
    perform refuse('22023', 'specification.labels', 'schedule and schedule_at are set for every run');
  end if;
  -- With a bad `labels` there is nothing to add to, and check_specification says what is wrong with it.
  if jsonb_typeof(coalesce(nullif(given -> 'labels', 'null'), '{}')) = 'object' then
    given := scheduled_specification(given, name, clock_timestamp());
  end if;
  perform check_specification('specification.', given, me.tenant, (select p.document::jsonb from current_policy() p));
  perform read_retry('specification.', given -> 'retry');
end
$$;

-- Makes or replaces a schedule of the caller's tenant. What is due under the old document is not fired under the new one:
-- it begins with the present. One that was paused stays so. The same document by the same role again changes nothing.
-- `next_at` is its first instant; without one, a worker computes it.
create function set_schedule(
  name text, document jsonb, next_at timestamptz default null, out revision int, out changed boolean)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant principal := producer();
begin
  if coalesce(set_schedule.name !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$', true) then
    perform refuse('22023', 'name', shown(set_schedule.name) || ' is no name of a schedule',
      'letters, digits, . _ and -, a letter or digit first, at most 63');
  elsif not isfinite(set_schedule.next_at) then
    perform refuse('22023', 'next_at', 'must be a finite time');
  end if;
  perform check_schedule(me, set_schedule.name, set_schedule.document);
  insert into schedule as s (tenant, name, document, next_at, set_by)
  values (me.tenant, set_schedule.name, set_schedule.document, coalesce(set_schedule.next_at, clock_timestamp()), me.role)
  on conflict (tenant, name) do update
    set document = excluded.document, revision = s.revision + 1, turn = nextval('schedule_turn'),
      next_at = excluded.next_at, handled_at = clock_timestamp(), problem = null, set_at = clock_timestamp(),
      set_by = excluded.set_by
    where s.document <> excluded.document or s.set_by <> excluded.set_by or s.problem is not null
  returning s.revision into set_schedule.revision;
  changed := found;
  if changed then
    -- The specification is in every job.
    insert into audit (what, detail) values ('schedule_set', jsonb_build_object('schedule', set_schedule.name,
      'tenant', me.tenant, 'revision', set_schedule.revision,
      'document', set_schedule.document - 'specification'));
  else
    select s.revision into set_schedule.revision from schedule s
    where s.tenant = me.tenant and s.name = set_schedule.name;
  end if;
end
$$;

-- The schedule, locked, if it is of the caller's tenant. Operators name any tenant's.
create function own_schedule(name text, tenant text) returns schedule
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  mine constant text := (select p.tenant from principal p where p.role = session_user);
  s schedule;
begin
  select * into s from schedule x
  where x.name = own_schedule.name and x.tenant = coalesce(own_schedule.tenant, mine)
    and (x.tenant = mine or pg_has_role(session_user, 'cordon_operator', 'member'))
  for update;
  if not found then
    perform refuse('CD404', 'schedule', format('there is no schedule %s', shown(own_schedule.name)),
      case when mine is null and own_schedule.tenant is null then 'name its tenant' end);
  end if;
  return s;
end
$$;

-- Jobs that it has enqueued stay.
create function remove_schedule(name text, tenant text default null) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  s constant schedule := own_schedule(remove_schedule.name, remove_schedule.tenant);
begin
  delete from schedule x where x.tenant = s.tenant and x.name = s.name;
  insert into audit (what, detail) values ('schedule_removed', jsonb_build_object('schedule', s.name, 'tenant', s.tenant,
    'revision', s.revision));
end
$$;

create function pause_schedule(name text, tenant text default null) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  s constant schedule := own_schedule(pause_schedule.name, pause_schedule.tenant);
begin
  if s.enabled then
    update schedule x set enabled = false, turn = nextval('schedule_turn') where x.tenant = s.tenant and x.name = s.name;
    insert into audit (what, detail) values ('schedule_paused', jsonb_build_object('schedule', s.name, 'tenant', s.tenant));
  end if;
end
$$;

-- Instants of the pause are not missed runs: somebody did not want them.
create function resume_schedule(name text, tenant text default null) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  s constant schedule := own_schedule(resume_schedule.name, resume_schedule.tenant);
begin
  if not s.enabled then
    update schedule x set enabled = true, turn = nextval('schedule_turn'), handled_at = clock_timestamp(),
      next_at = clock_timestamp()
    where x.tenant = s.tenant and x.name = s.name;
    insert into audit (what, detail) values ('schedule_resumed', jsonb_build_object('schedule', s.name, 'tenant', s.tenant));
  end if;
end
$$;

-- The schedules this session may see, or those of one name, by tenant and name.
create function schedules(name text default null, most int default 1000) returns setof jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  everything constant boolean := sees_all();
  mine constant text := (select p.tenant from principal p where p.role = session_user);
begin
  if not coalesce(most between 1 and 10000, false) then
    perform refuse('22023', 'limit', format('%s is not 1 to 10000', coalesce(most::text, 'null')));
  end if;
  return query
    select jsonb_build_object('schedule', s.name, 'tenant', s.tenant, 'revision', s.revision,
      'state', case when not s.enabled then 'paused' when s.next_at is not null then 'active'
        when s.problem is not null then 'broken' else 'ended' end,
      'cron', s.document -> 'cron', 'zone', s.document -> 'zone',
      'queue', coalesce(s.document -> 'queue', '"default"'), 'next_at', case when s.enabled then iso(s.next_at) end,
      'last_at', iso(s.last_at), 'last_job', s.last_jobs[cardinality(s.last_jobs)], 'problem', s.problem,
      'set_by', s.set_by, 'set_at', iso(s.set_at), 'document', s.document)
    from schedule s
    where (everything or s.tenant = mine) and (schedules.name is null or s.name = schedules.name)
    order by s.tenant, s.name limit most;
end
$$;

grant execute on function set_schedule(text, jsonb, timestamptz) to cordon_producer;
grant execute on function remove_schedule(text, text), pause_schedule(text, text), resume_schedule(text, text)
  to cordon_producer, cordon_operator;
grant execute on function schedules(text, int) to cordon_producer, cordon_operator, cordon_auditor;
