-- The kill switch. A tenant, a principal, a policy, a program, a worker or a job is revoked, and from that commit on
--
--   nothing of it is accepted or starts: an enqueue is refused, what waits is held by the claim that meets it, what was claimed and has
--   not begun is taken back, there and then or at its start;
--   what runs goes on (`drain`), stands still where it is (`freeze`), or is over (`kill`): its lease is gone and its last row is written
--   in the same transaction, so whatever the worker says later comes too late, and what it publishes is withdrawn.
--
-- Workers hear of it by a notification; a worker that misses one sees within a second that `revocation_epoch` has changed. Either way
-- it asks by a heartbeat, whose answer names what is lost and what is frozen. Revoked workers are told CD403 and leave.
--
-- `revocation` is what was decided, and when; `revoked` is what is in force.
--
-- A revocation waits for nobody: a producer or a worker that keeps a row locked cannot keep it from being in force. What is locked at
-- that moment is ended by whoever looks next: the operator's command looks again, and so does each heartbeat, for its worker's own.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

create table revocation (
  id bigint generated always as identity primary key,
  kind text not null check (kind in ('tenant', 'principal', 'policy', 'code', 'worker', 'job')),
  target text not null,
  -- Null where a revocation was lifted.
  mode text check (mode in ('drain', 'freeze', 'kill')),
  reason text not null,
  at timestamptz not null default clock_timestamp(),
  set_by name not null default session_user
);
create trigger keep before update or delete on revocation for each row execute function refuse_change();
create trigger keep_all before truncate on revocation execute function refuse_change();

create table revoked (
  kind text not null,
  target text not null,
  mode text not null,
  reason text not null,
  since timestamptz not null default clock_timestamp(),
  set_by name not null default session_user,
  primary key (kind, target)
);

alter table lease add column frozen boolean not null default false;

alter table attempt
  drop constraint attempt_via_check,
  add constraint attempt_via_check check (via in ('complete', 'release', 'rescue', 'cancel', 'expire', 'revoke'));

-- The digest that the worker will give the program, as far as the specification says it: of the text, of the blob, of the
-- command line. A file's is known when the worker has read it.
create function code_digest(specification jsonb) returns text
language plpgsql immutable security definer set search_path = cordon, pg_temp as $$
begin
  if specification ->> 'runtime' = 'exec' then
    return 'sha256:' || encode(sha256((
      select string_agg(convert_to(a.value, 'UTF8') || '\x00'::bytea, '' order by a.number)
      from jsonb_array_elements_text(specification -> 'argv') with ordinality a (value, number))), 'hex');
  elsif jsonb_typeof(specification -> 'code') = 'string' then
    return 'sha256:' || encode(sha256(convert_to(specification ->> 'code', 'UTF8')), 'hex');
  elsif specification -> 'code' ? 'text' then
    return 'sha256:' || encode(sha256(convert_to(specification -> 'code' ->> 'text', 'UTF8')), 'hex');
  end if;
  return specification -> 'code' ->> 'blob';
end
$$;

-- (What a claim asks, `barred_because` and its like, is in 0037, which knows one more reason.)

create function refuse_revoked(me principal, policy text default null) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  found record;
begin
  select r.kind, r.target, r.reason into found from revoked r
  where (r.kind, r.target) in (('tenant', me.tenant), ('principal', me.role::text), ('policy', refuse_revoked.policy)) limit 1;
  if found.kind is not null then
    perform refuse('42501', found.kind, format('%s is revoked: %s', shown(found.target), found.reason));
  end if;
end
$$;

-- Ends attempts that run, whoever holds them: their leases go and their last rows are written.
create function end_revoked(jobs uuid[], reason text) returns int
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  ended int;
begin
  with gone as (
    delete from lease l where l.job = any (jobs) returning l.*
  ), written as (
    insert into attempt (job, attempt, final, via, tenant, queue, outcome, reason, code, inputs, isolation, token,
      worker, worker_name, worker_role, host, build, started_at)
    select g.job, g.attempt, true, 'revoke', g.tenant, g.queue, 'cancelled', end_revoked.reason, g.attribution ->> 'code',
      nullif(g.attribution -> 'inputs', 'null'), nullif(g.attribution -> 'isolation', 'null'), g.token, w.id, w.name, w.role,
      w.host, w.build, g.started_at
    from gone g left join worker w on w.id = g.worker
    returning job, attempt
  ), noted as (
    insert into audit (what, job, attempt, detail)
    select 'killed', w.job, w.attempt, jsonb_build_object('reason', end_revoked.reason) from written w returning 1
  )
  select count(*) into ended from noted;
  return ended;
end
$$;

-- The leases of what is revoked.
create function leases_of(kind text, target text, only_worker bigint default null) returns table (job uuid, token bigint)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  return query
    select l.job, l.token
    from lease l cross join lateral (select * from job where job.id = l.job offset 0) j
    where (only_worker is null or l.worker = only_worker) and case leases_of.kind
      when 'tenant' then l.tenant = target
      when 'principal' then j.enqueued_by = target or l.worker in (select w.id from worker w where w.role = target)
      when 'policy' then target in (j.policy,
        (select n.policy from narrowed n where n.job = l.job and n.attempt = l.attempt))
      when 'code' then target in (l.attribution ->> 'code', code_digest(j.specification))
      when 'worker' then l.worker in (select w.id from worker w where w.name = target or w.id::text = target)
        or l.worker::text = target
      else l.job::text = target end;
end
$$;

-- Who is told to leave: workers of a revoked name, number or role.
create function worker_revocation(me worker) returns text
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return (
    select format('%s %s is revoked: %s', r.kind, r.target, r.reason) from revoked r
    where (r.kind, r.target) in (('worker', me.name), ('worker', me.id::text), ('principal', me.role::text))
      and r.mode = 'kill' limit 1);
end
$$;

-- Does to the leases of what is revoked what the mode says, as far as nobody has them locked; of one worker, or of all.
create function enforce_revocations(only_worker bigint default null, out recalled int, out frozen int, out killed int)
language plpgsql volatile security definer set search_path = cordon, pg_temp set lock_timeout = '500ms' as $$
#variable_conflict use_column
declare
  r record;
  owner record;
  fresh uuid[];
  begun uuid[];
  ended int;
  aside int;
begin
  perform require_read_committed();
  recalled := 0;
  frozen := 0;
  killed := 0;
  for r in select * from revoked order by kind, target loop
    -- What waits for a row that somebody keeps locked is left to the next look, and the others are not.
    begin
      select array_agg(x.job) filter (where x.started_at is null), array_agg(x.job) filter (where x.started_at is not null)
      into fresh, begun
      from (
        select l.* from lease l join leases_of(r.kind, r.target, only_worker) f on f.job = l.job and f.token = l.token
        where not (r.mode = 'freeze' and l.frozen)
        for update of l skip locked) x;
      aside := 0;
      ended := 0;
      if fresh is not null then
        aside := recall(fresh);
      end if;
      if begun is not null and r.mode = 'freeze' then
        update lease l set frozen = true where l.job = any (begun) and not l.frozen;
        frozen := frozen + cardinality(begun);
      elsif begun is not null and r.mode = 'kill' then
        -- What a revoked worker holds is not at fault itself: it is lost to it, and others' to run.
        for owner in
          select w as who, array_agg(l.job) as jobs, array_agg(l.token) as tokens from lease l join worker w on w.id = l.worker
          where l.job = any (begun) and (r.kind = 'worker' or r.kind = 'principal' and w.role = r.target
            and not exists (select from job j where j.id = l.job and j.enqueued_by = r.target))
          group by w.id
        loop
          perform give_back(owner.who, owner.jobs, owner.tokens, true, 'revoked: ' || r.reason);
          ended := ended + cardinality(owner.jobs);
        end loop;
        -- What is left of a worker whose row is gone is the next rescue's.
        if r.kind <> 'worker' then
          ended := ended + end_revoked(begun, format('revoked: %s %s by %s: %s', r.kind, r.target, r.set_by, r.reason));
        end if;
      end if;
      recalled := recalled + aside;
      killed := killed + ended;
    exception when lock_not_available then
      null;
    end;
  end loop;
end
$$;

-- What no `freeze` holds any more goes on.
create function thaw(only_worker bigint default null) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  update lease l set frozen = false
  where l.ctid = any (array(
      select x.ctid from lease x where x.frozen and (only_worker is null or x.worker = only_worker) for update skip locked))
    and not exists (
    select from revoked r cross join lateral leases_of(r.kind, r.target) f where r.mode = 'freeze' and f.job = l.job);
end
$$;

-- Revokes, or changes how. Says how many attempts were taken back before they began, frozen, and ended; and whether there is anything
-- of that name, because one that is misspelt stops nobody.
create function revoke(
  kind text, target text, mode text, reason text, out recalled int, out frozen int, out killed int, out is_known boolean)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  why constant text := left(regexp_replace(revoke.reason, '[\s[:cntrl:]]+', ' ', 'g'), 500);
begin
  if not coalesce(revoke.kind in ('tenant', 'principal', 'policy', 'code', 'worker', 'job'), false) then
    perform refuse('22023', 'kind', shown(revoke.kind) || ' is unknown; use tenant, principal, policy, code, worker or job');
  elsif not coalesce(revoke.mode in ('drain', 'freeze', 'kill'), false) then
    perform refuse('22023', 'mode', shown(revoke.mode) || ' is unknown; use drain, freeze or kill');
  elsif btrim(coalesce(why, '')) = '' then
    perform refuse('22023', 'reason', 'is missing; it stands in every record of what is ended');
  end if;
  if revoke.kind = 'job' then
    revoke.target := lower(revoke.target);
  end if;
  if not coalesce(case revoke.kind
    when 'tenant' then revoke.target ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'
    when 'job' then revoke.target ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
    when 'policy' then revoke.target ~ '^sha256:[0-9a-f]{64}$'
    when 'code' then revoke.target ~ '^sha256:[0-9a-f]{64}$'
    else octet_length(revoke.target) between 1 and 128 end, false) then
    perform refuse('22023', revoke.kind, shown(revoke.target) || ' is no name of one');
  end if;
  perform require_read_committed();
  is_known := case revoke.kind
    when 'tenant' then exists (select from principal p where p.tenant = revoke.target)
      or exists (select from lane n where n.tenant = revoke.target)
    when 'principal' then exists (select from principal p where p.role = revoke.target)
      or exists (select from worker w where w.role = revoke.target)
    when 'policy' then exists (select from policy p where p.digest = revoke.target)
    when 'worker' then exists (select from worker w where w.name = revoke.target or w.id::text = revoke.target)
    when 'job' then exists (select from job j where j.id = revoke.target::uuid)
    -- A program that nobody has run yet may well be revoked.
    else true end;
  insert into revocation (kind, target, mode, reason) values (revoke.kind, revoke.target, revoke.mode, why);
  insert into revoked as r (kind, target, mode, reason) values (revoke.kind, revoke.target, revoke.mode, why)
  on conflict (kind, target) do update
    set (mode, reason, since, set_by) = (excluded.mode, excluded.reason, excluded.since, excluded.set_by);
  -- What was claimed before is judged at its start.
  update policy_epoch set epoch = epoch + 1;
  insert into audit (what, detail) values ('revoked', jsonb_build_object('kind', revoke.kind, 'target', revoke.target,
    'mode', revoke.mode, 'reason', why));
  select e.recalled, e.frozen, e.killed into recalled, frozen, killed from enforce_revocations() e;
  if revoke.mode <> 'freeze' then
    perform thaw();
  end if;
  perform pg_notify('cordon_cancel', 'revoked');
end
$$;

-- Lifts a revocation: what is frozen goes on, what is held is judged anew. False where there is none.
create function lift_revocation(kind text, target text, reason text) returns boolean
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  why constant text := left(regexp_replace(coalesce(lift_revocation.reason, ''), '[\s[:cntrl:]]+', ' ', 'g'), 500);
begin
  perform require_read_committed();
  delete from revoked r where r.kind = lift_revocation.kind and r.target = lift_revocation.target;
  if not found then
    return false;
  end if;
  insert into revocation (kind, target, reason) values (lift_revocation.kind, lift_revocation.target, why);
  insert into audit (what, detail) values ('revocation_lifted', jsonb_build_object('kind', lift_revocation.kind,
    'target', lift_revocation.target, 'reason', why));
  perform thaw();
  perform settle_policies();
  perform pg_notify('cordon_cancel', 'lifted');
  return true;
end
$$;

-- What is revoked, or all that ever was decided, the newest first.
create function revocations(everything boolean default false) returns setof jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return query
    select jsonb_build_object('kind', r.kind, 'target', r.target, 'mode', coalesce(r.mode, 'lifted'), 'reason', r.reason,
      'since', iso(r.at), 'set_by', r.set_by)
    from (
      select d.kind, d.target, d.mode, d.reason, d.at, d.set_by from revocation d where everything
      union all
      select n.kind, n.target, n.mode, n.reason, n.since, n.set_by from revoked n where not everything
    ) r order by r.at desc;
end
$$;

-- Changes with each decision. Asked for once a second by every worker, and nothing else is.
create function revocation_epoch() returns bigint
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return (select coalesce(max(r.id), 0) from revocation r);
end
$$;

-- Programs whose digest is known only now: of a revoked one nothing begins. It is over under `kill`, else it is held.
create or replace function bar_starts(me worker, jobs uuid[], tokens bigint[], known jsonb[]) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  hit record;
  why text;
begin
  if not exists (select from revoked r where r.kind = 'code') then
    return;
  end if;
  for hit in
    select array_agg(l.job) as jobs, r.mode, r.set_by, r.target, r.reason
    from unnest(jobs, tokens, known) g (job, token, known) join lease l on l.job = g.job and l.token = g.token
    join revoked r on r.kind = 'code' and r.target = g.known ->> 'code'
    where l.worker = me.id and l.started_at is null and not l.cancel
    group by r.mode, r.set_by, r.target, r.reason
  loop
    why := format('revoked: code %s by %s: %s', hit.target, hit.set_by, hit.reason);
    if hit.mode = 'kill' then
      perform end_revoked(hit.jobs, why);
      continue;
    end if;
    with gone as (
      delete from lease l where l.job = any (hit.jobs) and l.worker = me.id and l.started_at is null returning l.*
    ), noted as (
      insert into audit (what, job, attempt, worker, detail)
      select 'held', g.job, g.attempt, me.id, jsonb_build_object('reason', why) from gone g
    ), later as (
      insert into scheduled (run_at, job, queue, lane, rank, attempt)
      select 'infinity', g.job, g.queue, g.lane, g.rank, g.attempt - 1 from gone g
    )
    insert into held as h (job, policy, reason)
    select g.job, (select j.policy from job j where j.id = g.job), why from gone g
    on conflict (job) do update set reason = excluded.reason, since = excluded.since;
  end loop;
end
$$;

do $$
declare
  change record;
  definition text;
begin
  for change in
    select * from (values
      ('producer()', 'return me;', 'perform refuse_revoked(me); return me;'),
      ('enqueue_jobs(principal, text, text, jsonb[], text, timestamptz, int, timestamptz, text, uuid[], text, uuid, uuid)',
        'perform check_priority(enqueue_jobs.priority);',
        E'perform refuse_revoked(me, rules.digest);\n  perform check_priority(enqueue_jobs.priority);'),
      ('own_worker(bigint)', 'return me;',
        'if exists (select from revoked) and worker_revocation(me) is not null then
    perform refuse(''CD403'', ''worker'', worker_revocation(me));
  end if;
  return me;'),
      ('heartbeat(bigint, uuid[], bigint[])', 'select array_agg(u.job), array_agg(u.token)',
        'if exists (select from revoked) and worker_revocation(me) is not null then
    perform refuse(''CD403'', ''worker'', worker_revocation(me));
  end if;
  if exists (select from revoked) then
    perform enforce_revocations(me.id);
  end if;
  if exists (select from lease l where l.worker = me.id and l.frozen) then
    perform thaw(me.id);
  end if;
  select array_agg(u.job), array_agg(u.token)'),
      ('rescue(int)', 'where l.deadline_at < clock_timestamp() or', 'where l.deadline_at < clock_timestamp() and not l.frozen or'),
      ('heartbeat(bigint, uuid[], bigint[])', $a$case when l.job is null then 'lost' else 'cancel' end$a$,
        $b$case when l.job is null then 'lost' when l.cancel then 'cancel' else 'freeze' end$b$),
      ('heartbeat(bigint, uuid[], bigint[])', 'where l.job is null or l.cancel;', 'where l.job is null or l.cancel or l.frozen;'),
      ('register_worker(text, text, text, text[], int, float8, text[], text[])',
        'select * into me from principal p where p.role = session_user;',
        'if exists (select from revoked r where (r.kind, r.target) in (
    (''worker'', register_worker.name), (''principal'', session_user::text))) then
    perform refuse(''CD403'', ''worker'', format(''%s of role %s is revoked'', shown(register_worker.name), shown(session_user::text)));
  end if;
  select * into me from principal p where p.role = session_user;')
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

grant execute on function revoke(text, text, text, text), lift_revocation(text, text, text), enforce_revocations(bigint)
  to cordon_operator;
grant execute on function revocations(boolean) to cordon_operator, cordon_auditor;
grant execute on function revocation_epoch() to cordon_worker;

do $$
declare
  pinned text;
  setting text;
begin
  foreach pinned in array array['leases_of(text, text, bigint)', 'end_revoked(uuid[], text)', 'enforce_revocations(bigint)',
    'barred_because(text, name, text, uuid, jsonb)', 'revocation_epoch()', 'thaw(bigint)']
  loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
  end loop;
end
$$;
