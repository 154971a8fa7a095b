-- What people ask of policies: which are in force and bound and ever were, what one says, what a tenant may do in a queue and which
-- document decided, and what a document would have decided.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- The bindings, or all that there ever were, the newest first; and ceilings among them.
create function policy_history(everything boolean default false) returns setof jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return query
    select jsonb_build_object('tenant', h.tenant, 'queue', (select q.name from queue q where q.id = h.queue),
      'scope', case when h.tenant is null and h.queue is null then 'ceiling' else concat_ws(' in ', 'tenant ' || h.tenant,
        'queue ' || (select q.name from queue q where q.id = h.queue)) end,
      'policy', h.digest, 'since', iso(h.since), 'set_by', h.set_by, 'in_force', h.now)
    from (
      select null as tenant, null::smallint as queue, f.digest, f.since, f.added_by as set_by,
        f.id = (select max(id) from policy_in_force) as now from policy_in_force f
      union all
      select b.tenant, b.queue, b.digest, b.since, b.set_by,
        b.digest is not null and b.id in (select c.id from current_bindings() c) from policy_binding b
    ) h
    where everything or h.now order by h.since desc;
end
$$;

-- A document by its name, whole or one that narrows, and as it was written.
create function policy_document(digest text) returns table (document text, source text, narrows boolean)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  return query
    select d.document, (select s.source from policy_source s where s.digest = policy_document.digest), d.narrows
    from (select p.digest, p.document, false as narrows from policy p
      union all select p.digest, p.document, true from policy_part p) d
    where d.digest = policy_document.digest limit 1;
  if not found then
    perform refuse('CD404', 'policy', shown(policy_document.digest) || ' is unknown');
  end if;
end
$$;

-- The members that something can be decided by: those of objects one by one, lists as wholes.
create function policy_members(document jsonb) returns table (path text, value jsonb)
language plpgsql immutable security definer set search_path = cordon, pg_temp as $$
begin
  return query
    with recursive m (path, value) as (
      select e.key, e.value from jsonb_each(document) e
      union all
      select m.path || '.' || e.key, e.value from m
      cross join lateral jsonb_each(case when jsonb_typeof(m.value) = 'object' then m.value else '{}' end) e
    )
    select m.path, m.value from m where jsonb_typeof(m.value) <> 'object' or m.value = '{}';
end
$$;

-- Why a request would be refused under a document; null when it would not. The words of the refusal, its SQLSTATE, and the
-- member of the document that decided.
create function request_refusal(specification jsonb, tenant text, document jsonb) returns jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  finding text;
  fix text;
  field text;
begin
  perform check_specification('', specification - 'retry', tenant, document);
  perform read_retry('', specification -> 'retry');
  return null;
exception when sqlstate 'CD001' or sqlstate '42501' or sqlstate '22023' then
  get stacked diagnostics finding = message_text, fix = pg_exception_hint;
  field := split_part(finding, ': ', 1);
  return jsonb_build_object('sqlstate', sqlstate, 'reason', finding, 'fix', nullif(fix, ''), 'member', case
    when sqlstate = 'CD001' then replace(field, 'limits.', 'ceilings.')
    when sqlstate = '42501' and field = 'runtime' then 'runtimes' end);
end
$$;

-- What a tenant may do in a queue: each member of the effective document, and which document decided it; and of a request,
-- whether it would be taken, and what decided if not.
create function explain_policy(tenant text default null, queue text default null, specification jsonb default null)
returns jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  queue_id constant smallint := named_queue(explain_policy.queue);
  step record;
  last jsonb := '{}';
  deciders jsonb := '{}';
  refusal jsonb;
begin
  for step in select * from policy_steps(explain_policy.tenant, queue_id) loop
    deciders := deciders || coalesce((
      select jsonb_object_agg(m.path, jsonb_build_object('scope', step.scope, 'policy', step.digest,
        'since', iso(step.since), 'set_by', step.set_by))
      from policy_members(step.document) m
      where not exists (select from policy_members(last) o where o.path = m.path and o.value = m.value)), '{}');
    last := step.document;
  end loop;
  refusal := case when specification is not null
    then request_refusal(specification, explain_policy.tenant, last) end;
  return jsonb_build_object('tenant', explain_policy.tenant, 'queue', explain_policy.queue,
    'policy', digest_of(canonical_json(last)),
    'members', (select jsonb_agg(jsonb_build_object('member', m.path, 'value', m.value) || (deciders -> m.path)
      order by m.path) from policy_members(last) m),
    'request', case when specification is not null then jsonb_build_object('allowed', refusal is null,
      'refused', refusal || jsonb_build_object('decided_by', deciders -> (refusal ->> 'member'))) end);
end
$$;

-- What a document would have decided otherwise, had it been in force or bound when the jobs of the past were enqueued. Only what was
-- taken is on record: it tells what would be refused.
create function simulate_policy(
  document text, tenant text default null, queue text default null, since interval default '7 days', most int default 10000)
returns jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  trial constant jsonb := parse_policy(simulate_policy.document);
  queue_id constant smallint := named_queue(simulate_policy.queue);
  known jsonb := '{}';
  pair text;
  j record;
  seen int := 0;
  refusal jsonb;
  flips jsonb := '{}';
begin
  if simulate_policy.tenant is null and queue_id is null then
    perform check_policy(trial);
  else
    perform check_part(trial);
  end if;
  if not coalesce(simulate_policy.since between interval '0' and interval '10 years' and most between 1 and 1000000, false) then
    perform refuse('22023', 'since', 'must be up to ten years, and the number of jobs 1 to 1000000');
  end if;
  for j in
    select id, tenant, queue, specification from job
    where id >= uuid7_floor(clock_timestamp() - simulate_policy.since)
      and (simulate_policy.tenant is null or tenant = simulate_policy.tenant)
      and (queue_id is null or queue = queue_id)
    order by id desc limit most
  loop
    seen := seen + 1;
    pair := j.queue || ' ' || j.tenant;
    if not known ? pair then
      known := known || jsonb_build_object(pair, jsonb_build_array(effective_document(j.tenant, j.queue),
        effective_document(j.tenant, j.queue, trial, simulate_policy.tenant, queue_id)));
    end if;
    refusal := request_refusal(j.specification, j.tenant, known -> pair -> 1);
    continue when refusal is null or request_refusal(j.specification, j.tenant, known -> pair -> 0) is not null;
    flips := jsonb_set(flips, array[refusal ->> 'reason'], jsonb_build_object(
      'jobs', coalesce((flips -> (refusal ->> 'reason') ->> 'jobs')::int, 0) + 1,
      'member', refusal -> 'member',
      'example', coalesce(flips -> (refusal ->> 'reason') -> 'example', to_jsonb(j.id))));
  end loop;
  return jsonb_build_object('jobs', seen, 'policy', digest_of(canonical_json(trial)), 'would_be_refused', (
    select coalesce(jsonb_agg(f.value || jsonb_build_object('reason', f.key) order by (f.value ->> 'jobs')::int desc, f.key), '[]')
    from jsonb_each(flips) f));
end
$$;

grant execute on function simulate_policy(text, text, text, interval, int) to cordon_operator;
grant execute on function policy_history(boolean), policy_document(text), explain_policy(text, text, jsonb)
  to cordon_operator, cordon_auditor;

do $$
declare
  setting text;
begin
  foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
    execute format('alter function simulate_policy(text, text, text, interval, int) set %I = off', setting);
  end loop;
end
$$;
