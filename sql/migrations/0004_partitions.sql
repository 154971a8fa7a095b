-- A partition a week of ids for the tables that only grow. A row that finds no partition of its own goes to the
-- default one, so a maintenance run that never came costs speed of retention and not jobs.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

create table job_default partition of job default;
create table attempt_default partition of attempt default;
create table log_chunk_default partition of log_chunk default;

-- Makes the partitions of this week and of the `ahead` weeks after it; returns how many it made. Called often: when
-- all exist it reads the catalog and leaves. A table is built beside its parent and then attached, because CREATE …
-- PARTITION OF would lock out every reader of the parent. It gives way: whoever is busy with the table goes first.
create function ensure_partitions(ahead int) returns int
language plpgsql security definer set search_path = cordon, pg_temp set lock_timeout = '1s' as $$
declare
  week constant bigint := 7 * 86400;
  this_week constant bigint := floor(extract(epoch from clock_timestamp()) / week)::bigint;
  parent text;
  begins timestamptz;
  made int := 0;
  partition text;
begin
  if ahead < 0 or ahead > 520 then
    perform refuse('22023', 'ahead', 'must be 0 to 520 weeks');
  end if;
  for number in this_week .. this_week + ahead loop
    begins := to_timestamp(number * week);
    foreach parent in array array['job', 'attempt', 'log_chunk'] loop
      partition := parent || to_char(begins at time zone 'UTC', '"_"YYYYMMDD');
      continue when to_regclass(format('cordon.%I', partition)) is not null;
      if not pg_try_advisory_xact_lock(hashtext('cordon.ensure_partitions')) then
        return made;
      end if;
      begin
        execute format('create table %I (like %I including defaults including constraints)', partition, parent);
        execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, partition,
          uuid7_floor(begins), uuid7_floor(begins + interval '7 days'));
        execute format(
          'create trigger keep_all before truncate on %I for each statement execute function refuse_change()',
          partition);
        made := made + 1;
      exception when lock_not_available or duplicate_table or check_violation then
        -- check_violation: the default partition holds rows of that week already; they stay where they are.
        null;
      end;
    end loop;
  end loop;
  return made;
end
$$;

-- As far ahead as is of use. How far is no worker's choice: every partition is a table to plan with.
create function ensure_partitions() returns int
language sql security definer set search_path = cordon, pg_temp as $$
  select ensure_partitions(4)
$$;

grant execute on function ensure_partitions() to cordon_worker, cordon_operator;
grant execute on function ensure_partitions(int) to cordon_operator;

do $$
declare
  parent text;
begin
  foreach parent in array array['job_default', 'attempt_default', 'log_chunk_default'] loop
    execute format('create trigger keep_all before truncate on %I for each statement execute function refuse_change()',
      parent);
  end loop;
  perform ensure_partitions();
end
$$;
