-- A claim need not be on disk before the worker hears of it. What makes an attempt is its start, which is; and since the log is
-- written in order, a start that is on disk has its claim there before it. A claim that a crash takes back leaves the job
-- where it was, and a start under it finds no lease. It saves whoever waits for a job one of two waits for the disk, or for a
-- replica that commits are confirmed by. A job that the claim finds too late to start is too late the next time as well.
--
-- The sequence may be taken back with it, and give a number again. A token's lower bits are therefore by chance: nobody can
-- hold one, from before the crash, that a later claim of the same job by the same worker is given.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- As in 0019. Leases rows of `ready` that the caller has chosen and nobody else can take. One whose `start_before` has passed is over
-- instead, as `expired`.
create or replace function lease_rows(me worker, queue_name text, chosen tid[]) returns table (
  job uuid, attempt int, token bigint, tenant text, queue text, enqueued_by name, specification jsonb, limits jsonb,
  policy text, document text, params text, lane int, rank bigint)
language plpgsql volatile security definer set search_path = cordon, pg_temp
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
begin
  perform set_config('synchronous_commit', 'off', true);
  return query with taken as (
    delete from ready where ctid = any (chosen) returning *
  ), seen as (
    select t.queue, t.lane, t.rank, t.attempt + 1 as attempt, j.id, j.tenant, j.enqueued_by, j.specification, j.limits,
      j.policy, j.margin_ms, j.start_before is not null and j.start_before <= clock_timestamp() as over
    from taken t cross join lateral (select * from job where job.id = t.job offset 0) j
  ), expired as (
    insert into attempt (job, attempt, final, via, tenant, queue, outcome, reason)
    select s.id, s.attempt, true, 'expire', s.tenant, s.queue, 'expired', 'not started before its time was over'
    from seen s where s.over
  ), leased as (
    insert into lease (job, token, worker, attempt, queue, lane, rank, tenant, deadline_at)
    select s.id, nextval('fencing_token') << 20 | (random() * 1048575)::int, me.id, s.attempt, s.queue, s.lane,
      s.rank, s.tenant,
      clock_timestamp() + make_interval(secs => ((s.limits ->> 'wall_ms')::bigint + (s.limits ->> 'grace_ms')::bigint
        + s.margin_ms) / 1000.0)
    from seen s where not s.over
    returning job, token
  )
  select s.id, s.attempt::int, l.token, s.tenant, queue_name, s.enqueued_by, s.specification, s.limits, s.policy,
    -- Once for each policy: the reader keeps it.
    case when row_number() over (partition by s.policy order by s.lane, s.rank, s.id) = 1
      then (select p.document from policy p where p.digest = s.policy) end,
    nullif(s.specification -> 'params', 'null')::text, s.lane, s.rank
  from leased l join seen s on s.id = l.job order by s.lane, s.rank, s.id;
end
$$;

-- CREATE OR REPLACE forgets what 0019 set.
do $$
declare
  setting text;
begin
  foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
    execute format('alter function lease_rows(worker, text, tid[]) set %I = off', setting);
  end loop;
end
$$;
