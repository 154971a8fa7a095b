-- Taking jobs. Which lanes, and why, stands in 0017.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

alter table attempt
  drop constraint attempt_via_check,
  add constraint attempt_via_check check (via in ('complete', 'release', 'rescue', 'cancel', 'expire')),
  drop constraint attempt_outcome_check,
  add constraint attempt_outcome_check check (outcome in (
    'succeeded', 'failed', 'signaled', 'timed_out', 'out_of_memory', 'output_limit', 'cancelled', 'lost', 'refused',
    'expired'));

drop function claim(bigint, int);

-- Leases rows of `ready` that the caller has chosen and nobody else can take. One whose `start_before` has passed is over
-- instead, as `expired`.
create function lease_rows(me worker, queue_name text, chosen tid[]) returns table (
  job uuid, attempt int, token bigint, tenant text, queue text, enqueued_by name, specification jsonb, limits jsonb,
  policy text, document text, params text, lane int, rank bigint)
language plpgsql volatile security definer set search_path = cordon, pg_temp
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
begin
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
    select s.id, nextval('fencing_token'), me.id, s.attempt, s.queue, s.lane, s.rank, s.tenant,
      clock_timestamp() + make_interval(secs => ((s.limits ->> 'wall_ms')::bigint + (s.limits ->> 'grace_ms')::bigint
        + s.margin_ms) / 1000.0)
    from seen s where not s.over
    returning job, token
  )
  select s.id, s.attempt::int, l.token, s.tenant, queue_name, s.enqueued_by, s.specification, s.limits, s.policy,
    (select p.document from policy p where p.digest = s.policy),
    nullif(s.specification -> 'params', 'null')::text, s.lane, s.rank
  from leased l join seen s on s.id = l.job order by s.lane, s.rank, s.id;
end
$$;

-- Takes up to `most` jobs. `lanes` are those that gave this worker jobs, and `floors` the ranks from which on each is to be
-- read; with `look_behind` other lanes are looked for behind that one, from the front of each. The answer names lane and
-- rank, for the next call. A claim that finds less than it asked for marks the worker idle, which is what makes producers
-- notify; it says so only where it has looked.
--
-- The rows to take are named by ctid, so the plan is a TID scan whatever the statistics say. The queues of a worker take
-- turns by chance, so none starves. Policies, waivers and offers: see 0014 and 0015.
create function claim(
  worker bigint, most int, lanes int[] default '{}', floors bigint[] default '{}', look_behind int default 0
) returns table (
  job uuid, attempt int, token bigint, tenant text, queue text, enqueued_by name, specification jsonb, limits jsonb,
  policy text, document text, params text, lane int, rank bigint)
language plpgsql volatile security definer set search_path = cordon, pg_temp
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  -- A share of more lanes costs more descents a job; of fewer, a lane waits longer for its turn.
  at_once constant int := 16;
  me constant worker := own_worker(claim.worker);
  mine principal;
  q record;
  l record;
  -- Policies whose jobs this worker may run; null is all.
  allowed text[];
  wanted int := least(greatest(most, 0), me.slots);
  room int;
  chosen tid[];
  picked tid[];
  turn int[];
  from_rank bigint[];
  behind int;
  wrapped boolean;
begin
  select * into mine from principal p where p.role = session_user;
  -- A worker that lacks nothing and offers everything is asked no further; one whose worst is that no policy asks for
  -- what it does not offer looks at no job's policy either.
  if me.missing <> '{}' or not offers_asked_for() <@ me.offers then
    allowed := array(select p.digest from policy p
      where me.missing <@ waived_controls(p.document) and offers_needed(p.document) <@ me.offers);
    if cardinality(allowed) = (select count(*) from policy) then
      allowed := null;
    end if;
  end if;
  if allowed = '{}' or me.drained_at is not null then
    wanted := 0;
  end if;
  if look_behind is not null then
    perform promote(greatest(100, wanted));
  end if;
  for q in
    select id, name, max_running from queue
    where id = any (me.queues) and state <> 'paused' and (mine.queues is null or name = any (mine.queues))
    order by random()
  loop
    exit when wanted <= 0;
    room := wanted;
    if q.max_running is not null then
      perform from queue where id = q.id for update skip locked;
      continue when not found;
      room := least(room, q.max_running - (select count(*) from lease x where x.queue = q.id)::int);
    end if;
    picked := '{}';
    -- First the lanes that are known; then, if asked to look, turn after turn until everybody was asked.
    select array_agg(k.lane order by k.number), array_agg(k.floor order by k.number) into turn, from_rank
    from unnest(claim.lanes, claim.floors) with ordinality k (lane, floor, number)
    where exists (select from lane n where n.id = k.lane and n.queue = q.id) and look_behind is null;
    behind := coalesce(look_behind, 0);
    wrapped := behind <= 0;
    loop
      if look_behind is not null then
        turn := array(select lanes_behind(q.id, behind, at_once));
        from_rank := array_fill('-9223372036854775808'::bigint, array[cardinality(turn)]);
        -- Around once: up to where it began.
        if behind < look_behind then
          turn := array(select t from unnest(turn) t where t <= look_behind);
        end if;
      end if;
      for l in
        with asked as (
          select t.lane, t.floor, t.number, n.tenant, coalesce(w.weight, 1) as weight,
            coalesce(n.max_running is not null or n.rate is not null or w.max_running is not null, false) as limited
          from unnest(turn, from_rank) with ordinality t (lane, floor, number)
          left join lane n on n.id = t.lane left join tenant w on w.name = n.tenant
          where mine.tenant is null or n.tenant = mine.tenant
        )
        -- Those with a limit first: what the others do not leave to them would else be filled up by the others.
        select a.lane, a.floor, a.tenant, ceil(a.share)::int as share, false as together, null::int[] as lanes,
          null::bigint[] as floors, null::int[] as shares
        from (select *, room::float8 * weight / sum(weight) over () as share from asked) a where a.limited
        union all
        select null, null, null, 0, true, array_agg(a.lane order by a.number), array_agg(a.floor order by a.number),
          array_agg(ceil(a.share)::int order by a.number)
        from (select *, room::float8 * weight / sum(weight) over () as share from asked) a
        where not a.limited having count(*) > 0
      loop
        exit when room <= 0;
        if l.together then
          -- In shares; and where that leaves room, because some lanes had less, without.
          for pass in 1 .. 2 loop
            chosen := array(
              select p.ctid from unnest(l.lanes, l.floors, l.shares) with ordinality n (lane, floor, share, number)
              cross join lateral (
                select r.ctid from ready r
                where r.queue = q.id and r.lane = n.lane and r.rank >= n.floor
                  and (allowed is null or (select j.policy from job j where j.id = r.job) = any (allowed))
                  and (pass = 1 or r.ctid <> all (picked))
                order by r.queue, r.lane, r.rank, r.job
                limit case when pass = 1 then n.share else room end for update skip locked) p
              limit room);
            picked := picked || chosen;
            room := room - cardinality(chosen);
            exit when room <= 0 or cardinality(l.lanes) = 1;
          end loop;
        else
          chosen := array(
            select r.ctid from ready r
            where r.queue = q.id and r.lane = l.lane and r.rank >= l.floor
              and (allowed is null or (select j.policy from job j where j.id = r.job) = any (allowed))
            order by r.queue, r.lane, r.rank, r.job
            limit least(l.share, room, lane_allowance(l.lane, q.id, l.tenant)) for update skip locked);
          -- Leased at once, so that the next lane of the same tenant is counted rightly.
          return query select * from lease_rows(me, q.name, chosen) r;
          perform take_tokens(l.lane, cardinality(chosen));
          room := room - cardinality(chosen);
          wanted := wanted - cardinality(chosen);
        end if;
      end loop;
      exit when room <= 0 or look_behind is null;
      if cardinality(turn) < at_once then
        exit when wrapped or look_behind <= 0;
        wrapped := true;
        behind := 0;
      else
        behind := turn[cardinality(turn)];
        exit when wrapped and behind >= look_behind;
      end if;
    end loop;
    if picked <> '{}' then
      return query select * from lease_rows(me, q.name, picked) r;
      wanted := wanted - cardinality(picked);
    end if;
  end loop;
  if look_behind is not null or wanted = 0 then
    update worker w set idle = (wanted > 0), seen_at = clock_timestamp()
    where w.id = me.id and (w.idle is distinct from (wanted > 0)
      or w.seen_at < clock_timestamp() - make_interval(secs => w.lease_seconds / 4));
  end if;
end
$$;

grant execute on function claim(bigint, int, int[], bigint[], int) to cordon_worker;

do $$
declare
  pinned text;
  setting text;
begin
  foreach pinned in array array['claim(bigint, int, int[], bigint[], int)', 'lease_rows(worker, text, tid[])',
    'lanes_behind(smallint, int, int)', 'promote(int)']
  loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
  end loop;
end
$$;
