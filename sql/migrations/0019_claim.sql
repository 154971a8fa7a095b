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
    -- Once for each policy: the reader keeps it.
    case when row_number() over (partition by s.policy order by s.lane, s.rank, s.id) = 1
      then (select p.document from policy p where p.digest = s.policy) end,
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
  update worker w set seen_at = clock_timestamp()
  where w.id = me.id and w.seen_at < clock_timestamp() - make_interval(secs => w.lease_seconds / 4);
  if look_behind is not null and wanted > 0 and me.drained_at is null then
    -- A row that is there stays for half its time: whoever enqueues after a second look sees one that was committed before it.
    delete from idle where ctid = any (array(
      select i.ctid from idle i
      where i.worker = me.id and i.until <= clock_timestamp() + make_interval(secs => me.lease_seconds / 2)
      for update skip locked));
    insert into idle (queue, worker, until)
    select q, me.id, clock_timestamp() + make_interval(secs => me.lease_seconds) from unnest(me.queues) q
    where not exists (select from idle i where i.queue = q and i.worker = me.id
      and i.until > clock_timestamp() + make_interval(secs => me.lease_seconds / 2));
  end if;
end
$$;

-- As in 0014, with what says that a worker is idle.
create or replace function report_drained(worker bigint, reason text) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(report_drained.worker);
  why constant text := left(regexp_replace(report_drained.reason, '[\s[:cntrl:]]+', ' ', 'g'), 1000);
begin
  update worker w set drained_at = clock_timestamp(), drained_reason = coalesce(why, 'unknown')
  where w.id = me.id and w.drained_at is null;
  if found then
    delete from idle where ctid = any (array(
      select i.ctid from idle i where i.worker = me.id for update skip locked));
    insert into audit (what, worker, detail)
    values ('drained', me.id, jsonb_build_object('name', me.name, 'host', me.host, 'reason', why));
  end if;
end
$$;

create or replace function retire_worker(worker bigint) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(retire_worker.worker);
  holds constant boolean := exists (select from lease l where l.worker = me.id);
begin
  delete from idle where ctid = any (array(
    select i.ctid from idle i where i.worker = me.id for update skip locked));
  delete from worker w where w.id = me.id and me.drained_at is null and not holds;
  update worker w set seen_at = case when holds or me.drained_at is null then '-infinity' else w.seen_at end
  where w.id = me.id;
  insert into audit (what, worker, detail)
  values ('retired', me.id, jsonb_build_object('name', me.name, 'host', me.host));
end
$$;

alter table worker drop column idle;

-- As in 0009. The deadline moves by as long as the attempt may take, which the claim has put into the lease: a job is not
-- looked up again for that.
create or replace function start(worker bigint, jobs uuid[], tokens bigint[], attributions text[]) returns setof uuid
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(start.worker);
  stranger text;
begin
  select a into stranger from unnest(attributions) a where jsonb_typeof(a::jsonb) <> 'object' limit 1;
  if found then
    perform refuse('22023', 'attribution', shown(stranger) || ' is no object');
  end if;
  return query
    with held as (
      select l.*, c.attribution::jsonb as known from unnest(jobs, tokens, attributions) as c (job, token, attribution)
      join lease l on l.job = c.job and l.token = c.token
      where l.worker = me.id and not l.cancel for update of l
    ), begun as (
      update lease l set started_at = clock_timestamp(),
        deadline_at = clock_timestamp() + (l.deadline_at - l.claimed_at), attribution = h.known
      from held h where l.job = h.job and h.started_at is null
      returning l.*
    ), noted as (
      insert into audit (what, job, attempt, worker, detail)
      select 'started', b.job, b.attempt, me.id, jsonb_build_object('token', b.token, 'host', me.host) from begun b
    )
    select h.job from held h;
end
$$;

grant execute on function claim(bigint, int, int[], bigint[], int) to cordon_worker;

do $$
declare
  pinned text;
  setting text;
begin
  foreach pinned in array array['claim(bigint, int, int[], bigint[], int)', 'lease_rows(worker, text, tid[])',
    'lanes_behind(smallint, int, int)', 'promote(int)', 'start(bigint, uuid[], bigint[], text[])']
  loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
  end loop;
end
$$;
