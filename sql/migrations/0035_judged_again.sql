-- A job is accepted under one policy and may meet a narrower one by the time it runs. The claim judges again: what was narrowed
-- meanwhile runs with the narrower limits, and what asked for something that is no longer allowed waits as `held`, until a policy
-- is changed; nothing runs under the wider one. What was widened meanwhile stays as narrow as it was accepted.
--
-- A held job is a row of `scheduled` for a time that never comes, so that all that goes through waiting jobs (cancel, snooze,
-- deadlines, retention) knows it; `held` says why. The policy of an attempt is its job's, unless `narrowed` has another.
--
-- A claim and a change of policies may pass each other, and nobody waits for the other: a producer or a worker that leaves a
-- transaction open must not be able to keep a policy from changing. So each change has a number, a lease keeps the one its claim
-- saw, and a start under an older number is judged once more. What was claimed before and has not begun is taken back at the change,
-- as far as nobody has it locked, else at its start; the worker's start then finds no lease.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

create table held (
  job uuid primary key,
  policy text not null,
  reason text not null,
  since timestamptz not null default clock_timestamp()
);

create table narrowed (
  job uuid not null,
  attempt smallint not null,
  policy text not null,
  primary key (job, attempt)
);

-- The narrower of two policies, worked out once.
create table policy_meet (
  a text not null,
  b text not null,
  met text not null,
  primary key (a, b)
);

-- The number of the last change.
create table policy_epoch (epoch bigint not null);
insert into policy_epoch values (1);

alter table lease add column epoch bigint not null default 0;

do $$
declare
  named text;
begin
  foreach named in array array['held', 'narrowed'] loop
    execute format('alter table %I enable row level security', named);
    execute format('grant select on %I to cordon_reader', named);
    execute format($policy$create policy of_own_tenant on %1$I for select to cordon_reader
      using (exists (select from job j where j.id = %1$I.job))$policy$, named);
  end loop;
end
$$;

-- Whoever looks at what is in force must see what was committed before the look, and not what was when its transaction began.
create function require_read_committed() returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform refuse('25001', 'transaction', 'its isolation is ' || current_setting('transaction_isolation'),
      'use read committed, PostgreSQL''s default');
  end if;
end
$$;

-- Why a job may not start at all, whatever its policy says; null for no reason. 0036 and 0037 know some.
create function barred_because(tenant text, principal name, policy text, job uuid, specification jsonb) returns text
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return null;
end
$$;

-- Until when a principal's jobs are put off; null for not at all.
create function put_off_until(principal name) returns timestamptz
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return null;
end
$$;

-- Whether either has anything to say of anybody. A claim asks this once.
create function is_anybody_barred() returns boolean
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return false;
end
$$;

-- Whether a worker is to be given nothing.
create function is_barred(me worker) returns boolean
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return false;
end
$$;

-- What a document leaves of another: its defaults and its lease say nothing of what is allowed, and what it does not mention is none.
create function as_part(document jsonb) returns jsonb
language plpgsql immutable security definer set search_path = cordon, pg_temp as $$
begin
  return '{"waivers": [], "warm": {}, "outputs": {"on": "memory"}}' || (document - '{defaults,lease}'::text[]);
end
$$;

-- The policy under which a job that was accepted under `a` runs while `b` is what it would be accepted under.
create function meet_policies(a text, b text) returns text
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  met text := (select m.met from policy_meet m where m.a = meet_policies.a and m.b = meet_policies.b);
begin
  if met is null then
    met := keep_policy(narrow_policy(
      (select p.document::jsonb from policy p where p.digest = meet_policies.a),
      as_part((select p.document::jsonb from policy p where p.digest = meet_policies.b))));
    insert into policy_meet (a, b, met) values (meet_policies.a, meet_policies.b, met) on conflict do nothing;
  end if;
  return met;
end
$$;

-- Whether a job that was accepted under `digest` may run under it still. No where it was not worked out yet.
create function policy_stands(digest text, of_tenant text, of_queue smallint) returns boolean
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  now_digest constant text := (select e.digest from policy_effective e
    where e.tenant in (of_tenant, '') and e.queue in (of_queue, 0) order by e.tenant desc, e.queue desc limit 1);
begin
  return policy_stands.digest = now_digest or exists (
    select from policy_meet m where m.a = policy_stands.digest and m.b = now_digest and m.met = m.a);
end
$$;

-- What a job asks for by name and a document does not allow; null for nothing.
create function held_because(specification jsonb, document jsonb) returns text
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  reason text;
begin
  if not document -> 'runtimes' ? (specification ->> 'runtime') then
    return format('runtime: %s is no longer allowed by policy', shown(specification ->> 'runtime'));
  end if;
  select format('limits.%s: %s is over the %s that policy allows by now', l.name, shown(specification -> 'limits' -> l.name),
    document -> 'ceilings' ->> l.name)
  into reason
  from limit_names() l
  where jsonb_typeof(coalesce(specification -> 'limits' -> l.name, 'null')) <> 'null'
    and read_limit(l.name, l.kind, specification -> 'limits' -> l.name) > read_limit(l.name, l.kind, document -> 'ceilings' -> l.name)
  order by l.name limit 1;
  return reason;
end
$$;

-- Leases jobs whose policy does not stand, or holds them. `attempts` are those about to begin. Those that this worker cannot run
-- under the narrower policy go back for another.
create function lease_narrowed(
  me worker, queue_name text, queue_id smallint, jobs uuid[], attempts smallint[], in_epoch bigint) returns table (
  job uuid, attempt int, token bigint, tenant text, queue text, enqueued_by name, specification jsonb, limits jsonb,
  policy text, document text, params text, lane int, rank bigint)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  j record;
  in_force text;
  met text;
  rules policy;
  why text;
  set_aside boolean := false;
begin
  for j in
    select g.attempt as turn, p.lane as at_lane, p.rank as at_rank, w.*
    from unnest(jobs, attempts) g (job, attempt)
    cross join lateral (
      select * from job where job.id = g.job and job.id between jobs[1] and jobs[cardinality(jobs)] offset 0) w
    cross join lateral place(w) p
    order by w.id
  loop
    -- First, because it may be written down by this, and then the next statement sees it.
    in_force := (policy_for(j.tenant, queue_id)).digest;
    met := meet_policies(j.policy, in_force);
    select p.* into strict rules from policy p where p.digest = met;
    if put_off_until(j.enqueued_by) is not null then
      insert into scheduled (run_at, job, queue, lane, rank, attempt)
      values (put_off_until(j.enqueued_by), j.id, queue_id, j.at_lane, j.at_rank, j.turn - 1);
      set_aside := true;
      continue;
    end if;
    why := coalesce(barred_because(j.tenant, j.enqueued_by, j.policy, j.id, j.specification),
      barred_because(null, null, rules.digest, null, null), held_because(j.specification, rules.document::jsonb));
    if why is not null then
      insert into scheduled (run_at, job, queue, lane, rank, attempt)
      values ('infinity', j.id, queue_id, j.at_lane, j.at_rank, j.turn - 1);
      insert into held as h (job, policy, reason) values (j.id, in_force, why)
      on conflict (job) do update set policy = excluded.policy, reason = excluded.reason, since = excluded.since;
      insert into audit (what, job, attempt, detail)
      values ('held', j.id, j.turn, jsonb_build_object('policy', in_force, 'reason', why));
      set_aside := true;
      continue;
    elsif not (me.missing <@ waived_controls(rules.document) and offers_needed(rules.document) <@ me.offers) then
      insert into ready (queue, lane, rank, job, attempt) values (queue_id, j.at_lane, j.at_rank, j.id, j.turn - 1);
      perform wake(queue_id);
      continue;
    end if;
    select jsonb_object_agg(l.key, least(l.value::bigint, (a.amounts -> 'ceilings' ->> l.key)::bigint)) into limits
    from policy_amounts a cross join lateral jsonb_each_text(j.limits) l where a.policy = rules.digest;
    token := nextval('fencing_token') << 20 | (random() * 1048575)::int;
    insert into lease (job, token, worker, attempt, queue, lane, rank, tenant, epoch, deadline_at)
    values (j.id, token, me.id, j.turn, queue_id, j.at_lane, j.at_rank, j.tenant, in_epoch, clock_timestamp() + make_interval(
      secs => ((limits ->> 'wall_ms')::bigint + (limits ->> 'grace_ms')::bigint + j.margin_ms) / 1000.0));
    if rules.digest <> j.policy then
      insert into narrowed (job, attempt, policy) values (j.id, j.turn, rules.digest);
    end if;
    job := j.id;
    attempt := j.turn;
    tenant := j.tenant;
    queue := queue_name;
    enqueued_by := j.enqueued_by;
    specification := j.specification;
    policy := rules.digest;
    document := rules.document;
    params := nullif(j.specification -> 'params', 'null')::text;
    lane := j.at_lane;
    rank := j.at_rank;
    return next;
  end loop;
  if set_aside then
    -- They took the places of others in this claim, who must not wait for a poll.
    perform pg_notify('cordon_ready', queue_name);
  end if;
end
$$;

-- As in 0028, and only what may run under the policy it was accepted under; for the rest there is `lease_narrowed`.
create or replace function lease_rows(me worker, queue_name text, chosen tid[]) returns table (
  job uuid, attempt int, token bigint, tenant text, queue text, enqueued_by name, specification jsonb, limits jsonb,
  policy text, document text, params text, lane int, rank bigint)
language plpgsql volatile security definer set search_path = cordon, pg_temp
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  leased int;
  ids uuid[];
  attempts smallint[];
  queue_id smallint;
  first uuid;
  last uuid;
  -- The policy that nearly all jobs were accepted under, and others that are no wider; null where tenants or queues have their own.
  standing text[];
  -- Before anything is looked at: a change that comes in between has another number, and the start looks again.
  in_epoch constant bigint := (select p.epoch from policy_epoch p);
  anybody_barred constant boolean := is_anybody_barred();
begin
  perform set_config('synchronous_commit', 'off', true);
  select array_agg(r.job order by r.job), array_agg(r.attempt + 1 order by r.job), min(r.queue)
  into ids, attempts, queue_id from ready r where r.ctid = any (chosen);
  -- So that the statement sets up the partitions with these jobs and not all there are.
  first := ids[1];
  last := ids[cardinality(ids)];
  if not exists (select from policy_effective e where e.tenant > '' or e.queue > 0) then
    select array_agg(m.a) filter (where m.met = m.a) || e.digest into standing
    from policy_effective e left join policy_meet m on m.b = e.digest group by e.digest;
  end if;
  -- Of an attempt that was claimed before, under another policy, and given back before it began.
  if exists (select from narrowed) then
    delete from narrowed n using unnest(ids, attempts) g (job, attempt) where n.job = g.job and n.attempt = g.attempt;
  end if;
  if exists (select from held) then
    delete from held h where h.job = any (ids);
  end if;
  return query with gone as (
    delete from ready r where r.ctid = any (chosen) returning r.queue, r.lane, r.rank, r.attempt + 1 as attempt, r.job
  ), taken as (
    select g.queue, g.lane, g.rank, g.attempt, j.id, j.tenant, j.enqueued_by, j.specification, j.limits, j.policy,
      j.margin_ms, nextval('fencing_token') << 20 | (random() * 1048575)::int as token
    from gone g cross join lateral (
      select * from job where job.id = g.job and job.id between first and last offset 0) j
    where (j.start_before is null or j.start_before > clock_timestamp())
      and case when standing is null then policy_stands(j.policy, j.tenant, g.queue) else j.policy = any (standing) end
      and (not anybody_barred or barred_because(j.tenant, j.enqueued_by, j.policy, j.id, j.specification) is null
        and put_off_until(j.enqueued_by) is null)
  ), leased as (
    insert into lease (job, token, worker, attempt, queue, lane, rank, tenant, epoch, deadline_at)
    select t.id, t.token, me.id, t.attempt, t.queue, t.lane, t.rank, t.tenant, in_epoch,
      clock_timestamp() + make_interval(secs => ((t.limits ->> 'wall_ms')::bigint + (t.limits ->> 'grace_ms')::bigint
        + t.margin_ms) / 1000.0)
    from taken t
  )
  select t.id, t.attempt::int, t.token, t.tenant, queue_name, t.enqueued_by, t.specification, t.limits, t.policy,
    -- Once for each policy: the reader keeps it.
    case when row_number() over (partition by t.policy order by t.lane, t.rank, t.id) = 1
      then (select p.document from policy p where p.digest = t.policy) end,
    nullif(t.specification -> 'params', 'null')::text, t.lane, t.rank
  from taken t order by t.lane, t.rank, t.id;
  get diagnostics leased = row_count;
  if leased < cardinality(ids) then
    insert into attempt (job, attempt, final, via, tenant, queue, outcome, reason)
    select j.id, g.attempt, true, 'expire', j.tenant, queue_id, 'expired', 'not started before its time was over'
    from unnest(ids, attempts) g (job, attempt)
    cross join lateral (select * from job where job.id = g.job offset 0) j
    where j.start_before <= clock_timestamp() and not exists (select from lease l where l.job = g.job);
    select array_agg(g.job order by g.job), array_agg(g.attempt order by g.job) into ids, attempts
    from unnest(ids, attempts) g (job, attempt)
    where not exists (select from lease l where l.job = g.job)
      and not exists (select from attempt a where a.job = g.job and a.attempt = g.attempt);
    if ids is not null then
      return query select * from lease_narrowed(me, queue_name, queue_id, ids, attempts, in_epoch);
    end if;
  end if;
end
$$;

-- Puts attempts that have not begun back, as if they had not been claimed.
create function recall(jobs uuid[]) returns int
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  queues smallint[];
  count int;
begin
  with gone as (
    delete from lease l where l.job = any (jobs) and l.started_at is null and not l.cancel returning l.*
  ), noted as (
    insert into audit (what, job, attempt, worker) select 'recalled', g.job, g.attempt, g.worker from gone g
  ), forgotten as (
    delete from narrowed n using gone g where n.job = g.job and n.attempt = g.attempt
  ), again as (
    insert into ready (queue, lane, rank, job, attempt)
    select g.queue, g.lane, g.rank, g.job, g.attempt - 1 from gone g returning queue
  )
  select array_agg(distinct a.queue), count(*) into queues, count from again a;
  perform wake(q) from unnest(queues) q;
  return count;
end
$$;

-- Whether what was accepted under `a` may run under it while `b` is in force. Writes nothing, so that it waits for no claim that does.
create function policy_holds(a text, b text) returns boolean
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  met constant text := (select m.met from policy_meet m where m.a = policy_holds.a and m.b = policy_holds.b);
  document jsonb;
begin
  if met is not null or policy_holds.a = policy_holds.b then
    return coalesce(met, policy_holds.a) = policy_holds.a;
  end if;
  document := (select p.document::jsonb from policy p where p.digest = policy_holds.a);
  return narrow_policy(document, as_part((select p.document::jsonb from policy p where p.digest = policy_holds.b))) = document;
end
$$;

-- Of those attempts, the ones that have not begun and would not be given to this worker any more.
create function unfit(me worker, jobs uuid[]) returns uuid[]
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  return array(
    select m.job from (
      select l.job, j.tenant, j.enqueued_by, j.queue, j.policy, j.specification, coalesce(
        (select n.policy from narrowed n where n.job = l.job and n.attempt = l.attempt), j.policy) as under
      from lease l cross join lateral (select * from job where job.id = l.job offset 0) j
      where l.job = any (jobs) and l.started_at is null and not l.cancel
      for update of l skip locked) m
    where is_barred(me) or barred_because(m.tenant, m.enqueued_by, m.policy, m.job, m.specification) is not null
      or barred_because(null, null, m.under, null, null) is not null
      or not policy_holds(m.under, (policy_for(m.tenant, m.queue)).digest));
end
$$;

-- Attempts that were claimed before something changed are judged once more: what does not fit goes back, the rest is of the
-- present number. Says whether there were any.
create function judge_starts(me worker, jobs uuid[], tokens bigint[]) returns boolean
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  now_epoch constant bigint := (select p.epoch from policy_epoch p);
  old uuid[];
  gone uuid[];
begin
  select array_agg(l.job) into old from unnest(jobs, tokens) g (job, token) join lease l on l.job = g.job and l.token = g.token
  where l.worker = me.id and l.epoch <> now_epoch and l.started_at is null;
  if old is null then
    return false;
  end if;
  -- Whoever has one of them locked is waited for before they are looked at.
  perform from lease l where l.job = any (old) order by l.job for update;
  gone := unfit(me, old);
  if gone <> '{}' then
    perform recall(gone);
  end if;
  update lease l set epoch = now_epoch where l.job = any (old) and l.started_at is null and l.job <> all (gone);
  return true;
end
$$;

-- What may not begin although its claim was right. 0036 knows some.
create function bar_starts(me worker, jobs uuid[], tokens bigint[], known jsonb[]) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
begin
end
$$;

-- As in 0028, and: nothing begins under the number of an older state.
create or replace function start(worker bigint, jobs uuid[], tokens bigint[], attributions text[]) returns setof uuid
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(start.worker);
  known jsonb[];
  strangers jsonb[];
  begun uuid[] := '{}';
  batch uuid[];
  now_epoch bigint;
begin
  -- Parsed one by one: a cast of the whole array would write it out as a text once more.
  select array_agg(g.a), array_agg(g.a) filter (where jsonb_typeof(g.a) <> 'object') into known, strangers
  from (select a::jsonb from unnest(attributions) a offset 0) g;
  if strangers is not null then
    perform refuse('22023', 'attribution', shown(strangers[1]) || ' is no object');
  end if;
  -- Once, unless something changed since the claim, or changes while this is under way.
  loop
    now_epoch := (select p.epoch from policy_epoch p);
    perform bar_starts(me, jobs, tokens, known);
    with begun as (
      update lease l set started_at = clock_timestamp(), deadline_at = clock_timestamp() + (l.deadline_at - l.claimed_at),
        attribution = g.known
      from unnest(jobs, tokens, known) g (job, token, known)
      where l.job = g.job and l.token = g.token and l.worker is not distinct from me.id and not l.cancel and l.started_at is null
        and l.epoch = now_epoch
      returning l.job, l.attempt, l.token
    ), noted as (
      insert into audit (what, job, attempt, worker, detail)
      select 'started', b.job, b.attempt, me.id, jsonb_build_object('token', b.token, 'host', me.host) from begun b
    )
    select array_agg(b.job) into batch from begun b;
    -- It may have waited for a row, and what it looked at is from before the wait.
    if batch is not null and now_epoch <> (select p.epoch from policy_epoch p) then
      raise exception using errcode = '40001', message = 'start: something changed meanwhile', hint = 'ask again';
    end if;
    begun := begun || coalesce(batch, '{}');
    exit when cardinality(begun) >= cardinality(jobs) or not judge_starts(me, jobs, tokens);
  end loop;
  return query select b from unnest(begun) b;
  -- What had begun already is asked for again by who did not hear the answer.
  if cardinality(begun) < cardinality(jobs) then
    return query
      select l.job from unnest(jobs, tokens) g (job, token) join lease l on l.job = g.job and l.token = g.token
      where l.worker is not distinct from me.id and not l.cancel and l.started_at is not null and l.job <> all (begun)
      for update of l;
  end if;
end
$$;

-- Works `policy_effective` out anew. What was held is judged anew by the claims to come, and what was claimed and has not begun is judged now. (What runs is the
-- kill switch's to end.)
create function settle_policies() returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
declare
  pair record;
  holder record;
  gone uuid[];
begin
  perform require_read_committed();
  update policy_epoch set epoch = epoch + 1;
  delete from policy_effective;
  for pair in
    select t.tenant, q.queue
    from (select '' union select tenant from current_bindings() where tenant is not null) t (tenant)
    cross join (select 0::smallint union select queue from current_bindings() where queue is not null) q (queue)
  loop
    insert into policy_effective (tenant, queue, digest)
    values (pair.tenant, pair.queue, keep_policy(effective_document(nullif(pair.tenant, ''), nullif(pair.queue, 0::smallint))));
  end loop;
  with freed as (
    delete from scheduled where ctid = any (array(
      select s.ctid from scheduled s where s.run_at = 'infinity' for update skip locked))
    returning queue, lane, rank, job, attempt
  ), forgotten as (
    delete from held h using freed f where h.job = f.job
  )
  insert into ready (queue, lane, rank, job, attempt) select f.queue, f.lane, f.rank, f.job, f.attempt from freed f;
  for holder in
    select w as who, array_agg(l.job) as jobs from lease l join worker w on w.id = l.worker
    where l.started_at is null and not l.cancel group by w.id
  loop
    gone := unfit(holder.who, holder.jobs);
    if gone <> '{}' then
      perform recall(gone);
    end if;
  end loop;
  perform wake(q.id) from queue q where exists (select from ready r where r.queue = q.id);
end
$$;

do $$
declare
  change record;
  definition text;
begin
  for change in
    select * from (values
      -- A worker that lacks what the policy of now does not waive any more passes over such jobs, as over those of others.
      ('claim(bigint, int, int[], bigint[], int)', '(select j.policy from job j where j.id = r.job) = any (allowed)',
        '(select j.policy = any (allowed) and me.missing <@ waived_controls((policy_for(j.tenant, j.queue)).document)
                    from job j where j.id = r.job)'),
      ('claim(bigint, int, int[], bigint[], int)', 'or me.drained_at is not null then', 'or me.drained_at is not null or is_barred(me) then'),
      ('own_worker(bigint)', 'select * into me from worker', E'perform require_read_committed();\n  select * into me from worker'),
      ('give_back(worker, uuid[], bigint[], boolean, text)', 'foreach queue_id in array', E'if exists (select from narrowed) then
    delete from narrowed n where n.job = any (jobs)
      and not exists (select from lease l where l.job = n.job and l.attempt = n.attempt)
      and not exists (select from attempt a where a.job = n.job and a.attempt = n.attempt);
  end if;
  foreach queue_id in array')
    ) c (of, before, after)
  loop
    definition := pg_get_functiondef(change.of::regprocedure);
    if strpos(definition, change.before) = 0 then
      raise exception '% has no %', change.of, change.before;
    end if;
    execute replace(definition, change.before, change.after);
  end loop;
end
$$;

-- The settings that `lease_rows` had, and their like.
do $$
declare
  pinned text;
  setting text;
begin
  foreach pinned in array array['lease_rows(worker, text, tid[])', 'lease_narrowed(worker, text, smallint, uuid[], smallint[], bigint)',
    'policy_stands(text, text, smallint)', 'meet_policies(text, text)', 'recall(uuid[])', 'unfit(worker, uuid[])',
    'judge_starts(worker, uuid[], bigint[])',
    'start(bigint, uuid[], bigint[], text[])']
  loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
  end loop;
  alter function lease_rows(worker, text, tid[]) set enable_hashjoin = off;
  alter function start(bigint, uuid[], bigint[], text[]) set enable_hashjoin = off;
  alter function start(bigint, uuid[], bigint[], text[]) set plan_cache_mode = force_generic_plan;
end
$$;
