-- The kill switch. A tenant, a principal, a policy, a program, a worker or a job is revoked, and from that commit on
--
--   nothing of it is accepted or starts: an enqueue is refused, what waits is held by the claim that meets it, what was claimed and has
--   not begun is taken back;
--   what runs goes on (`drain`), stands still where it is (`freeze`), or is over (`kill`): its lease is gone and its last row is written
--   in the same transaction, so whatever the worker says later comes too late, and what it publishes is withdrawn.
--
-- Workers hear of it by a notification; a worker that misses one sees within a second that `revocation_epoch` has changed. Either way
-- it asks by a heartbeat, whose answer names what is lost and what is frozen. Revoked workers are told CD403 and leave.
--
-- `revocation` is what was decided, and when; `revoked` is what is in force.

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
  end if;
  return specification -> 'code' ->> 'blob';
end
$$;

-- Why a job may not start; null where nothing of it is revoked. `policy` may be that of an attempt.
create function revocation_of(tenant text, principal name, policy text, job uuid, specification jsonb) returns text
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  return (
    select format('revoked: %s %s by %s: %s', r.kind, r.target, r.set_by, r.reason) from revoked r
    where (r.kind, r.target) in (('tenant', revocation_of.tenant), ('principal', revocation_of.principal::text),
        ('policy', revocation_of.policy), ('job', revocation_of.job::text))
      or r.kind = 'code' and r.target = code_digest(revocation_of.specification)
    order by r.kind, r.target limit 1);
end
$$;

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
create function leases_of(kind text, target text) returns table (job uuid, token bigint, worker bigint, started boolean)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  return query
    select l.job, l.token, l.worker, l.started_at is not null
    from lease l cross join lateral (select * from job where job.id = l.job offset 0) j
    where case leases_of.kind
      when 'tenant' then l.tenant = target
      when 'principal' then j.enqueued_by = target or l.worker in (select w.id from worker w where w.role = target)
      when 'policy' then coalesce(
        (select n.policy from narrowed n where n.job = l.job and n.attempt = l.attempt), j.policy) = target
      when 'code' then target in (l.attribution ->> 'code', code_digest(j.specification))
      when 'worker' then l.worker in (select w.id from worker w where w.name = target or w.id::text = target)
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

-- Revokes, or changes how. Says how many attempts were taken back before they began, frozen, and ended.
create function revoke(
  kind text, target text, mode text, reason text, out recalled int, out frozen int, out killed int)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  why constant text := left(regexp_replace(revoke.reason, '[\s[:cntrl:]]+', ' ', 'g'), 500);
  gone record;
  given worker;
  hit uuid[];
begin
  if not coalesce(revoke.kind in ('tenant', 'principal', 'policy', 'code', 'worker', 'job'), false) then
    perform refuse('22023', 'kind', shown(revoke.kind) || ' is unknown; use tenant, principal, policy, code, worker or job');
  elsif not coalesce(revoke.mode in ('drain', 'freeze', 'kill'), false) then
    perform refuse('22023', 'mode', shown(revoke.mode) || ' is unknown; use drain, freeze or kill');
  elsif btrim(coalesce(why, '')) = '' then
    perform refuse('22023', 'reason', 'is missing; it stands in every record of what is ended');
  elsif not coalesce(case revoke.kind
    when 'tenant' then exists (select from principal p where p.tenant = revoke.target)
    when 'principal' then exists (select from principal p where p.role = revoke.target)
      or exists (select from worker w where w.role = revoke.target)
    when 'policy' then exists (select from policy p where p.digest = revoke.target)
    when 'code' then revoke.target ~ '^sha256:[0-9a-f]{64}$'
    when 'worker' then exists (select from worker w where w.name = revoke.target or w.id::text = revoke.target)
    else revoke.target ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
      and exists (select from job j where j.id = revoke.target::uuid) end, false) then
    perform refuse('CD404', revoke.kind, shown(revoke.target) || ' is unknown');
  end if;
  -- Claims that came before have committed, and those that come later see what is written here.
  perform pg_advisory_xact_lock(policy_lock());
  insert into revocation (kind, target, mode, reason) values (revoke.kind, revoke.target, revoke.mode, why);
  insert into revoked as r (kind, target, mode, reason) values (revoke.kind, revoke.target, revoke.mode, why)
  on conflict (kind, target) do update
    set (mode, reason, since, set_by) = (excluded.mode, excluded.reason, excluded.since, excluded.set_by);
  insert into audit (what, detail) values ('revoked', jsonb_build_object('kind', revoke.kind, 'target', revoke.target,
    'mode', revoke.mode, 'reason', why));

  with back as (
    delete from lease l using leases_of(revoke.kind, revoke.target) f
    where l.job = f.job and l.token = f.token and not f.started and not l.cancel returning l.*
  ), noted as (
    insert into audit (what, job, attempt, worker) select 'recalled', b.job, b.attempt, b.worker from back b
  ), again as (
    insert into ready (queue, lane, rank, job, attempt)
    select b.queue, b.lane, b.rank, b.job, b.attempt - 1 from back b returning 1
  )
  select count(*) into recalled from again;
  frozen := 0;
  killed := 0;
  if revoke.kind = 'worker' and revoke.mode <> 'freeze' then
    update worker w set drained_at = coalesce(w.drained_at, clock_timestamp()),
      drained_reason = coalesce(w.drained_reason, 'revoked: ' || why)
    where w.name = revoke.target or w.id::text = revoke.target;
  end if;
  if revoke.mode = 'freeze' then
    update lease l set frozen = true from leases_of(revoke.kind, revoke.target) f
    where l.job = f.job and l.token = f.token and not l.frozen;
    get diagnostics frozen = row_count;
  elsif revoke.mode = 'kill' then
    -- What a revoked worker holds is not at fault itself: it is lost to it, and others' to run.
    for gone in
      select w as who, array_agg(l.job) as jobs, array_agg(l.token) as tokens from worker w join lease l on l.worker = w.id
      where revoke.kind = 'worker' and (w.name = revoke.target or w.id::text = revoke.target)
        or revoke.kind = 'principal' and w.role = revoke.target
      group by w.id
    loop
      given := gone.who;
      perform give_back(given, gone.jobs, gone.tokens, true, 'revoked: ' || why);
      killed := killed + cardinality(gone.jobs);
    end loop;
    if revoke.kind <> 'worker' then
      hit := array(select f.job from leases_of(revoke.kind, revoke.target) f);
      killed := killed + end_revoked(hit, format('revoked: %s %s by %s: %s', revoke.kind, revoke.target, session_user, why));
    end if;
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
  perform pg_advisory_xact_lock(policy_lock());
  delete from revoked r where r.kind = lift_revocation.kind and r.target = lift_revocation.target;
  if not found then
    return false;
  end if;
  insert into revocation (kind, target, reason) values (lift_revocation.kind, lift_revocation.target, why);
  insert into audit (what, detail) values ('revocation_lifted', jsonb_build_object('kind', lift_revocation.kind,
    'target', lift_revocation.target, 'reason', why));
  -- Unless another one holds it still.
  update lease l set frozen = false
  where l.frozen and not exists (
    select from revoked r cross join lateral leases_of(r.kind, r.target) f where r.mode = 'freeze' and f.job = l.job);
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
    select jsonb_build_object('kind', r.kind, 'target', r.target, 'mode', r.mode, 'reason', r.reason, 'since', iso(r.since),
      'set_by', r.set_by)
    from revoked r where not everything
    union all
    select jsonb_build_object('kind', r.kind, 'target', r.target, 'mode', coalesce(r.mode, 'lifted'), 'reason', r.reason,
      'since', iso(r.at), 'set_by', r.set_by)
    from revocation r where everything
    order by 1 desc;
end
$$;

-- Changes with each decision. Asked for once a second by every worker, and nothing else is.
create function revocation_epoch() returns bigint
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return (select coalesce(max(r.id), 0) from revocation r);
end
$$;

-- Programs whose digest is known only now: a start under a revoked one ends the attempt.
create function end_revoked_starts(jobs uuid[], tokens bigint[], known jsonb[]) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  hit record;
begin
  for hit in
    select array_agg(l.job) as jobs, r.set_by, r.target, r.reason
    from unnest(jobs, tokens, known) g (job, token, known) join lease l on l.job = g.job and l.token = g.token
    join revoked r on r.kind = 'code' and r.target = g.known ->> 'code'
    group by r.set_by, r.target, r.reason
  loop
    perform end_revoked(hit.jobs, format('revoked: code %s by %s: %s', hit.target, hit.set_by, hit.reason));
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
      ('lease_rows(worker, text, tid[])', 'standing text[];',
        E'standing text[];\n  anything_revoked constant boolean := exists (select from revoked);'),
      ('lease_rows(worker, text, tid[])', 'else j.policy = any (standing) end',
        'else j.policy = any (standing) end
      and (not anything_revoked or revocation_of(j.tenant, j.enqueued_by, j.policy, j.id, j.specification) is null)'),
      ('lease_narrowed(worker, text, smallint, uuid[], smallint[])',
        'why := held_because(j.specification, rules.document::jsonb);',
        'why := coalesce(revocation_of(j.tenant, j.enqueued_by, j.policy, j.id, j.specification),
      revocation_of(null, null, rules.digest, null, null), held_because(j.specification, rules.document::jsonb));'),
      ('start(bigint, uuid[], bigint[], text[])', 'with begun as (',
        E'if exists (select from revoked r where r.kind = ''code'') then
    perform end_revoked_starts(jobs, tokens, known);
  end if;
  with begun as ('),
      ('own_worker(bigint)', 'return me;',
        'if exists (select from revoked) and worker_revocation(me) is not null then
    perform refuse(''CD403'', ''worker'', worker_revocation(me));
  end if;
  return me;'),
      ('heartbeat(bigint, uuid[], bigint[])', 'select array_agg(u.job), array_agg(u.token)',
        'if exists (select from revoked) and worker_revocation(me) is not null then
    perform refuse(''CD403'', ''worker'', worker_revocation(me));
  end if;
  select array_agg(u.job), array_agg(u.token)'),
      ('heartbeat(bigint, uuid[], bigint[])', $a$case when l.job is null then 'lost' else 'cancel' end$a$,
        $b$case when l.job is null then 'lost' when l.cancel then 'cancel' else 'freeze' end$b$),
      ('heartbeat(bigint, uuid[], bigint[])', 'where l.job is null or l.cancel;', 'where l.job is null or l.cancel or l.frozen;'),
      ('register_worker(text, text, text, text[], int, float8, text[], text[])',
        'select * into me from principal p where p.role = session_user;',
        'if exists (select from revoked r where r.mode = ''kill'' and (r.kind, r.target) in (
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

grant execute on function revoke(text, text, text, text), lift_revocation(text, text, text) to cordon_operator;
grant execute on function revocations(boolean) to cordon_operator, cordon_auditor;
grant execute on function revocation_epoch() to cordon_worker;

do $$
declare
  pinned text;
  setting text;
begin
  foreach pinned in array array['leases_of(text, text)', 'end_revoked(uuid[], text)', 'revocation_of(text, name, text, uuid, jsonb)',
    'revocation_epoch()']
  loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
  end loop;
end
$$;
