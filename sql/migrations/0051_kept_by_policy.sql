-- A policy's `retention` keeps weeks that `cordon maintain keep` would drop: a week stays for as long as any policy says under which a
-- job of it was accepted or ran, counted from the week's end, as that is. Records last as long as logs, because without them nobody
-- could say under which policy a log is.
--
-- There is no longest time by policy: jobs of many policies lie in one week, and rows are never deleted one by one (0023). The longest
-- time is the operator's, for all: `cordon maintain keep`.
--
-- Who looks whether a week has such a job may have to read all of it. What was found is noted until it is over; a week without one is
-- dropped at once; and one that something alive keeps is not looked at. So each is read once.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

create table kept_week (
  class text not null,
  begins timestamptz not null,
  policy text not null,
  until timestamptz not null,
  primary key (class, begins)
);

-- Milliseconds for which a document keeps a class.
create function kept_milliseconds(document jsonb, class text) returns bigint
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return greatest(
    case when document -> 'retention' ? 'logs' then read_limit('logs', 'duration', document -> 'retention' -> 'logs') else 0 end,
    case when class = 'jobs' and document -> 'retention' ? 'jobs'
      then read_limit('jobs', 'duration', document -> 'retention' -> 'jobs') else 0 end);
end
$$;

-- The policy that keeps a week, and until when; no row where none does.
create function kept_by_policy(class text, begins timestamptz) returns table (policy text, until timestamptz)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  first_id constant uuid := uuid7_floor(kept_by_policy.begins);
  end_id constant uuid := uuid7_floor(kept_by_policy.begins + interval '7 days');
  p record;
begin
  return query select w.policy, w.until from kept_week w
    where w.class = kept_by_policy.class and w.begins = kept_by_policy.begins and w.until > clock_timestamp();
  if found then
    return;
  end if;
  for p in
    select d.digest, kept_by_policy.begins + interval '7 days' + make_interval(secs => d.kept / 1000.0) as until
    from (select o.digest, kept_milliseconds(o.document::jsonb, kept_by_policy.class) as kept from policy o
      where o.document::jsonb ? 'retention' offset 0) d
    order by d.kept desc
  loop
    exit when p.until <= clock_timestamp();
    if exists (select from job j where j.id >= first_id and j.id < end_id and j.policy = p.digest)
      or exists (select from narrowed n where n.job >= first_id and n.job < end_id and n.policy = p.digest)
    then
      policy := p.digest;
      until := p.until;
      return next;
      return;
    end if;
  end loop;
end
$$;

-- Weeks that are past, how long each class is kept, and whether that is over.
create function past_weeks() returns table (class text, keep interval, begins timestamptz, due boolean)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  return query
    select r.class, r.keep, p.begins, coalesce(p.begins + interval '7 days' < clock_timestamp() - r.keep, false)
    from retention r
    join (values ('jobs', 'job_'), ('logs', 'log_chunk_')) n (class, prefix) on n.class = r.class
    join lateral (
      select to_date(substr(c.relname, length(n.prefix) + 1), 'YYYYMMDD')::timestamp at time zone 'UTC' as begins
      from pg_class c
      where c.relnamespace = 'cordon'::regnamespace and c.relkind = 'r' and c.relname ~ ('^' || n.prefix || '[0-9]{8}$')
    ) p on p.begins + interval '7 days' < clock_timestamp();
end
$$;

-- As in 0023, and what policies keep. That is asked only of what is due.
create or replace function retained() returns table (class text, keep interval, begins timestamptz, due boolean, because text)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  return query
    select w.class, w.keep, w.begins, w.due, coalesce(
      kept_because(uuid7_floor(w.begins), uuid7_floor(w.begins + interval '7 days')),
      case when w.due then (
        select format('policy %s keeps it until %s', k.policy, iso(k.until)) from kept_by_policy(w.class, w.begins) k) end)
    from past_weeks() w order by w.begins, w.class;
end
$$;

create function note_kept_weeks() returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
begin
  insert into kept_week (class, begins, policy, until)
  select w.class, w.begins, k.policy, k.until from past_weeks() w cross join lateral kept_by_policy(w.class, w.begins) k
  where w.due and kept_because(uuid7_floor(w.begins), uuid7_floor(w.begins + interval '7 days')) is null
  on conflict (class, begins) do update set policy = excluded.policy, until = excluded.until
    where kept_week.until <> excluded.until;
end
$$;

select change_function('apply_retention()', '  for week in select r.* from retained() r',
  E'  perform note_kept_weeks();\n  for week in select r.* from retained() r');
