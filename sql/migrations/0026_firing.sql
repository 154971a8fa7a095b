-- How schedules fire: what a worker asks, and what it hands in. Why that is exactly once stands in 0024.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

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
  created := take_key(me, '', enqueue_once.key,
    request_digest(enqueue_once.queue, enqueue_once.priority, enqueue_once.specification), enqueue_once.job,
    interval '7 days');
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

grant execute on function due_schedules(int), schedule_due_in(),
  fire_schedule(text, text, bigint, timestamptz[], timestamptz, timestamptz, timestamptz, timestamptz),
  break_schedule(text, text, bigint, text) to cordon_worker;

do $$
declare
  pinned text;
  setting text;
begin
  foreach pinned in array array['unfinished(uuid[])', 'due_schedules(int)', 'schedule_due_in()',
    'fire_schedule(text, text, bigint, timestamptz[], timestamptz, timestamptz, timestamptz, timestamptz)']
  loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
  end loop;
end
$$;
