-- How long what is over is kept. Jobs with their attempts, and logs, lie in partitions by week; a partition is dropped as a
-- whole when all of it is older than its class is kept, and only if nothing in it is alive: no job that waits, is blocked,
-- runs, or lies among the dead letters, and nothing that somebody holds (`is_held` is where holds will say so). Rows are
-- never deleted one by one: that would leave as many dead ones. Nothing is dropped unless an operator has said how long.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

create table retention (
  class text primary key check (class in ('jobs', 'logs')),
  keep interval check (keep >= interval '1 day')
);
insert into retention (class) values ('jobs'), ('logs');

-- Whether anybody holds rows of jobs in this range of ids. Nobody can yet.
create function is_held(first_id uuid, end_id uuid) returns boolean
language sql stable security definer set search_path = cordon, pg_temp as $$
  select false
$$;

-- Why the jobs of a range may not go; null when they may.
create function kept_because(first_id uuid, end_id uuid) returns text
language sql stable security definer set search_path = cordon, pg_temp as $$
  select case
    when exists (select from ready where job >= first_id and job < end_id) then 'a job is queued'
    when exists (select from scheduled where job >= first_id and job < end_id) then 'a job is scheduled'
    when exists (select from blocked where job >= first_id and job < end_id) then 'a job is blocked'
    when exists (select from lease where job >= first_id and job < end_id) then 'a job is running'
    when exists (select from dead_letter where job >= first_id and job < end_id) then 'a dead letter waits'
    when is_held(first_id, end_id) then 'held' end
$$;

create function set_retention(class text, keep interval) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  if set_retention.keep < interval '1 day' or set_retention.keep > interval '100 years' then
    perform refuse('22023', 'keep', 'is not 1 day to 100 years; null keeps for ever');
  end if;
  update retention r set keep = set_retention.keep where r.class = set_retention.class;
  if not found then
    perform refuse('22023', 'class', shown(set_retention.class) || ' is unknown; use jobs or logs');
  end if;
  insert into audit (what, detail) values ('retention_set',
    jsonb_build_object('class', set_retention.class, 'keep', set_retention.keep));
end
$$;

-- Weeks that are past and how long each class is kept: what would go, and why not.
create function retained() returns table (class text, keep interval, begins timestamptz, due boolean, because text)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  return query
    select r.class, r.keep, w.begins, coalesce(w.begins + interval '7 days' < clock_timestamp() - r.keep, false),
      kept_because(uuid7_floor(w.begins), uuid7_floor(w.begins + interval '7 days'))
    from retention r
    join (values ('jobs', 'job_'), ('logs', 'log_chunk_')) p (class, prefix) on p.class = r.class
    join lateral (
      select to_date(substr(c.relname, length(p.prefix) + 1), 'YYYYMMDD')::timestamp at time zone 'UTC' as begins from pg_class c
      where c.relnamespace = 'cordon'::regnamespace and c.relkind = 'r'
        and c.relname ~ ('^' || p.prefix || '[0-9]{8}$')) w on w.begins + interval '7 days' < clock_timestamp()
    order by w.begins, r.class;
end
$$;

-- Drops what is due and returns one line for each partition. Any worker may call it: the first one does it. It gives way:
-- whoever is busy with a table goes first.
create function apply_retention() returns setof text
language plpgsql volatile security definer set search_path = cordon, pg_temp set lock_timeout = '1s' as $$
#variable_conflict use_column
declare
  week record;
  parent text;
  name text;
begin
  if not exists (select from retention r where r.keep is not null)
    or not pg_try_advisory_xact_lock(hashtext('cordon.apply_retention'))
  then
    return;
  end if;
  for week in select r.* from retained() r where r.due and r.because is null loop
    begin
      foreach parent in array case week.class when 'jobs' then array['attempt', 'job'] else array['log_chunk'] end loop
        name := parent || to_char(week.begins at time zone 'UTC', '"_"YYYYMMDD');
        continue when to_regclass(format('cordon.%I', name)) is null;
        execute format('drop table %I', name);
        insert into audit (what, detail) values ('retention_dropped',
          jsonb_build_object('partition', name, 'keep', week.keep));
        return next name;
      end loop;
    exception when lock_not_available then
      -- Later.
      null;
    end;
  end loop;
end
$$;

grant execute on function set_retention(text, interval) to cordon_operator;
grant execute on function retained() to cordon_operator, cordon_auditor;
grant execute on function apply_retention() to cordon_worker, cordon_operator;
