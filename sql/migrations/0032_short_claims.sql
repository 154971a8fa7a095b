-- What most claims meet: one lane, or fewer jobs than there is room for. Then there is nothing to share, and the statements
-- that share (0019) are not run; for one job they took as long as the rest of its claim.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- As in 0019; and a worker is marked idle by a look that finds nothing, no longer by one that finds less than it asked for: whoever
-- waits for that job need not wait for the mark. The worker looks again anyway.
create or replace function claim(
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
  q record;
  l record;
  -- Policies whose jobs this worker may run; null is all.
  allowed text[];
  wanted int := least(greatest(most, 0), me.slots);
  room int;
  chosen tid[];
  picked tid[];
  is_limited boolean;
  turn int[];
  from_rank bigint[];
  behind int;
  wrapped boolean;
begin
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
  if look_behind is not null and exists (select from scheduled where run_at <= clock_timestamp()) then
    perform promote(greatest(100, wanted));
  end if;
  for q in
    select u.id, u.name, u.max_running, p.tenant from queue u left join principal p on p.role = session_user
    where u.id = any (me.queues) and u.state <> 'paused' and (p.queues is null or u.name = any (p.queues))
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
    if look_behind is null then
      -- The lanes that are known. One alone shares with nobody. (Where policies are looked at, their lookup is set up for
      -- each partition there is.)
      select array_agg(k.lane order by k.number), array_agg(k.floor order by k.number),
        bool_or(n.max_running is not null or n.rate is not null or w.max_running is not null)
      into turn, from_rank, is_limited
      from unnest(claim.lanes, claim.floors) with ordinality k (lane, floor, number)
      join lane n on n.id = k.lane and n.queue = q.id left join tenant w on w.name = n.tenant
      where q.tenant is null or n.tenant = q.tenant;
      continue when turn is null;
      if cardinality(turn) = 1 and not is_limited and allowed is null then
        picked := array(
          select r.ctid from ready r where r.queue = q.id and r.lane = turn[1] and r.rank >= from_rank[1]
          order by r.queue, r.lane, r.rank, r.job limit room for update skip locked);
        room := 0;
      end if;
    elsif allowed is null and q.tenant is null then
      -- Nor has anybody to share where there is room for everything that waits.
      select array_agg(f.ctid), bool_or(n.max_running is not null or n.rate is not null or w.max_running is not null)
      into chosen, is_limited
      from (select r.ctid, r.lane from ready r where r.queue = q.id
        order by r.queue, r.lane, r.rank, r.job limit room + 1) f
      join lane n on n.id = f.lane left join tenant w on w.name = n.tenant;
      continue when chosen is null;
      if cardinality(chosen) <= room and not is_limited then
        picked := array(select r.ctid from ready r where r.ctid = any (chosen) for update skip locked);
        room := 0;
      end if;
    end if;
    -- Turn after turn: of the lanes that are known, or, if asked to look, until everybody was asked.
    behind := coalesce(look_behind, 0);
    wrapped := behind <= 0;
    while room > 0 loop
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
          where q.tenant is null or n.tenant = q.tenant
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
  if me.seen_at < clock_timestamp() - make_interval(secs => me.lease_seconds / 4) then
    update worker w set seen_at = clock_timestamp() where w.id = me.id;
  end if;
  if look_behind is not null and wanted = least(most, me.slots) and wanted > 0 then
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

do $$
declare
  setting text;
begin
  foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
    execute format('alter function claim(bigint, int, int[], bigint[], int) set %I = off', setting);
  end loop;
end
$$;
