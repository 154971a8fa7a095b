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

-- For workers: what is due, with the clock it is due by. Nothing is locked, since computing takes its time.
create function due_schedules(most int)
returns table (tenant text, name text, turn bigint, document jsonb, handled_at timestamptz, now timestamptz)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  mine constant text := (select p.tenant from principal p where p.role = session_user);
begin
  return query
    select s.tenant, s.name, s.turn, s.document, s.handled_at, clock_timestamp() from schedule s
    where s.enabled and s.next_at <= clock_timestamp() and (mine is null or s.tenant = mine)
    order by s.next_at limit least(greatest(most, 0), 1000);
end
$$;

-- Seconds until the next schedule of those that due_schedules would show is due, negative when it is; null when none will be.
create function schedule_due_in() returns float8
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  mine constant text := (select p.tenant from principal p where p.role = session_user);
begin
  return extract(epoch from (
    select s.next_at from schedule s where s.enabled and s.next_at is not null and (mine is null or s.tenant = mine)
    order by s.next_at limit 1) - clock_timestamp());
end
$$;

-- As in 0021, for a job that somebody has been found to be allowed to cancel.
create function cancel_found(target job) returns text
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  rounds constant int := 100;
  at constant record := place(target);
  waiting record;
begin
  for round in 1 .. rounds loop
    with unready as (
      delete from ready r
      where r.queue = target.queue and r.lane = at.lane and r.rank = at.rank and r.job = target.id
      returning r.attempt
    ), unscheduled as (
      delete from scheduled s where s.job = target.id returning s.attempt
    ), unblocked as (
      delete from blocked b where b.job = target.id returning 0::smallint as attempt
    ), freed as (
      delete from dependency d where d.child = target.id
    )
    select attempt + 1 as attempt into waiting
    from (select * from unready union all select * from unscheduled union all select * from unblocked) w;
    if found then
      insert into attempt (job, attempt, final, via, tenant, queue, outcome, reason)
      values (target.id, waiting.attempt, true, 'cancel', target.tenant, target.queue, 'cancelled',
        'cancelled before it was claimed');
      insert into audit (what, job, attempt) values ('cancelled', target.id, waiting.attempt);
      return 'cancelled';
    end if;

    update lease l set cancel = true where l.job = target.id and not l.cancel
    returning l.attempt, l.worker into waiting;
    if found then
      insert into audit (what, job, attempt, worker)
      values ('cancel_requested', target.id, waiting.attempt, waiting.worker);
      perform pg_notify('cordon_cancel', target.id::text);
      return 'cancelling';
    elsif exists (select from lease l where l.job = target.id) then
      return 'cancelling';
    elsif exists (select from attempt a where a.job = target.id and a.final) then
      return 'finished';
    end if;
  end loop;
  raise exception using errcode = '40001', message = 'job: moved faster than it could be cancelled', hint = 'try again';
end
$$;

create or replace function cancel(job uuid) returns text
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
begin
  return cancel_found(visible_job(cancel.job, pg_has_role(session_user, 'cordon_operator', 'member')));
end
$$;

-- Those of these jobs that are neither over nor gone with their partition.
create function unfinished(jobs uuid[]) returns uuid[]
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  one uuid;
  open uuid[] := '{}';
begin
  foreach one in array jobs loop
    if exists (select from job j where j.id = one) and not is_over(one) then
      open := open || one;
    end if;
  end loop;
  return open;
end
$$;

-- Hands in what a worker has computed with the schedule of that turn: the instants to fire, the first and last of those
-- that were missed and are not fired, up to where all is settled, and the next instant (null: there is none). Returns the
-- jobs; null, and nothing has happened, when somebody else has had this turn or has it now.
--
-- Overlap: `queue` enqueues every instant. `skip` enqueues none while a run is not over; where several are due at once,
-- because they are caught up with, each waits for the one before. `cancel_previous` cancels runs that are not over, and
-- of several enqueues the last. A run that is refused is on record, and the schedule goes on.
create function fire_schedule(
  tenant text, name text, turn bigint, due timestamptz[], forgone_first timestamptz, forgone_last timestamptz,
  handled timestamptz, next_at timestamptz
) returns uuid[]
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  most constant int := 5000;
  remembered constant int := 100;
  mine constant text := (select p.tenant from principal p where p.role = session_user);
  s schedule;
  me principal;
  overlap text;
  queue_name text;
  priority int;
  kept timestamptz[] := due;
  skipped timestamptz[] := '{}';
  running uuid[];
  previous uuid;
  cancelled uuid[] := '{}';
  made uuid[] := '{}';
  fired timestamptz[] := '{}';
  instant timestamptz;
  specification jsonb;
  id uuid;
  trouble text;
begin
  select * into s from schedule x
  where x.tenant = fire_schedule.tenant and x.name = fire_schedule.name and x.turn = fire_schedule.turn and x.enabled
    and (mine is null or x.tenant = mine)
  for update skip locked;
  if not found then
    return null;
  end if;
  if due is null or cardinality(due) > most or array_position(due, null) is not null then
    perform refuse('22023', 'due', format('is no array of at most %s instants', most));
  elsif handled is null or handled < s.handled_at or handled > clock_timestamp() then
    perform refuse('22023', 'handled', 'is not between what was settled before and now');
  elsif exists (
    select from unnest(due) with ordinality d (at, number)
    where d.at <= s.handled_at or d.at > handled or d.at <> date_trunc('second', d.at)
      or d.at <= due[d.number::int - 1])
  then
    perform refuse('22023', 'due', 'holds an instant that is settled, to come, no whole second or out of order');
  elsif next_at <= handled or not isfinite(next_at) then
    perform refuse('22023', 'next_at', 'is not after what is settled');
  end if;

  running := unfinished(s.last_jobs);
  overlap := coalesce(s.document ->> 'overlap', 'skip');
  queue_name := coalesce(s.document ->> 'queue', 'default');
  priority := coalesce((s.document ->> 'priority')::int, 4);
  if overlap = 'skip' and running <> '{}' then
    kept := '{}';
    skipped := due;
  elsif overlap = 'cancel_previous' and cardinality(due) > 1 then
    kept := due[cardinality(due):];
    skipped := due[:cardinality(due) - 1];
  end if;

  select * into me from principal p where p.role = s.set_by;
  if kept <> '{}' and me.tenant is distinct from s.tenant then
    trouble := format('role %s acts for tenant %s no more; whoever does may set the schedule again', shown(s.set_by::text),
      shown(s.tenant));
    skipped := skipped || kept;
    kept := '{}';
  end if;
  foreach instant in array kept loop
    specification := scheduled_specification(s.document -> 'specification', s.name, instant);
    begin
      select e.job into id from enqueue_once(me, queue_name, specification,
        format('schedule/%s/%s', s.name, specification -> 'labels' ->> 'schedule_at'), priority,
        case when overlap = 'skip' then previous end) e where e.created;
      if found then
        made := made || id;
        fired := fired || instant;
        previous := id;
      else
        -- Somebody has used this run's key: it is not for the schedule to say that it is another's.
        skipped := skipped || instant;
        trouble := format('the key of the run at %s was used before', specification -> 'labels' ->> 'schedule_at');
      end if;
    exception when invalid_parameter_value or insufficient_privilege or sqlstate 'CD001' or sqlstate 'CD404'
      or sqlstate 'CD503' then
      trouble := sqlerrm;
      skipped := skipped || instant;
    end;
  end loop;
  -- Only for a run that takes their place.
  if overlap = 'cancel_previous' and made <> '{}' then
    perform cancel_found(j) from unnest(running) r (id) cross join lateral (select * from job where job.id = r.id offset 0) j;
    cancelled := running;
  end if;

  update schedule x set turn = nextval('schedule_turn'), handled_at = handled, next_at = fire_schedule.next_at,
    last_at = coalesce(fired[cardinality(fired)], x.last_at),
    last_jobs = (running || made)[greatest(1, cardinality(running || made) - remembered + 1):],
    problem = case when due = '{}' then x.problem else trouble end
  where x.tenant = s.tenant and x.name = s.name;
  if due <> '{}' or forgone_first is not null then
    insert into audit (what, detail) values ('schedule_fired', jsonb_build_object('schedule', s.name, 'tenant', s.tenant,
      'revision', s.revision, 'set_by', s.set_by, 'jobs', made,
      'instants', array(select iso(f) from unnest(fired) f), 'skipped', array(select iso(k) from unnest(skipped) k),
      'cancelled', cancelled, 'problem', trouble,
      'missed', case when forgone_first is not null then jsonb_build_array(iso(forgone_first), iso(forgone_last)) end));
  end if;
  return made;
end
$$;

-- One job under a key of the tenant, as enqueue_job makes it, for a principal. Not created when the key stands for another
-- job, whichever. It stands for a week, which is longer than any instant is looked at again.
create function enqueue_once(
  me principal, queue text, specification jsonb, key text, priority int, after uuid, out job uuid, out created boolean)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  enqueue_once.job := uuid7();
  insert into idempotency as i (tenant, scope, key, payload, job, expires_at)
  values (me.tenant, '', enqueue_once.key, sha256(convert_to(
    concat_ws(E'\n', enqueue_once.queue, enqueue_once.priority, enqueue_once.specification), 'UTF8')),
    enqueue_once.job, clock_timestamp() + interval '7 days')
  on conflict (tenant, scope, key) do update
    set payload = excluded.payload, job = excluded.job, expires_at = excluded.expires_at
    where i.expires_at <= clock_timestamp();
  created := found;
  if created then
    perform enqueue_jobs(me, '', enqueue_once.queue, array[enqueue_once.specification], enqueue_once.key, null,
      enqueue_once.priority, null, null, case when enqueue_once.after is not null then array[enqueue_once.after] end,
      'run', enqueue_once.job, null);
  end if;
end
$$;

-- A worker cannot make sense of a document, so nobody is asked again until somebody has set it anew.
create function break_schedule(tenant text, name text, turn bigint, problem text) returns boolean
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  mine constant text := (select p.tenant from principal p where p.role = session_user);
begin
  update schedule x set turn = nextval('schedule_turn'), next_at = null, problem = left(break_schedule.problem, 1000)
  where x.tenant = break_schedule.tenant and x.name = break_schedule.name and x.turn = break_schedule.turn
    and (mine is null or x.tenant = mine);
  if found then
    insert into audit (what, detail) values ('schedule_broken', jsonb_build_object('schedule', break_schedule.name,
      'tenant', break_schedule.tenant, 'problem', left(break_schedule.problem, 1000)));
  end if;
  return found;
end
$$;

grant execute on function set_schedule(text, jsonb, timestamptz) to cordon_producer;
grant execute on function remove_schedule(text, text), pause_schedule(text, text), resume_schedule(text, text)
  to cordon_producer, cordon_operator;
grant execute on function schedules(text, int) to cordon_producer, cordon_operator, cordon_auditor;
grant execute on function due_schedules(int), schedule_due_in(),
  fire_schedule(text, text, bigint, timestamptz[], timestamptz, timestamptz, timestamptz, timestamptz),
  break_schedule(text, text, bigint, text) to cordon_worker;

-- CREATE OR REPLACE forgets what 0012 set.
do $$
declare
  pinned text;
  setting text;
begin
  foreach pinned in array array['cancel(uuid)', 'cancel_found(job)', 'unfinished(uuid[])', 'due_schedules(int)',
    'schedule_due_in()',
    'fire_schedule(text, text, bigint, timestamptz[], timestamptz, timestamptz, timestamptz, timestamptz)']
  loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
  end loop;
end
$$;
