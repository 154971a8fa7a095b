-- Policies for some. Beside the policy in force, the ceiling, operators bind documents to a tenant, to a queue, or to a tenant
-- in a queue. Such a document narrows and never widens: a member that is absent leaves what the ceiling says, an empty list
-- is none. What a job of a tenant in a queue may do is the ceiling ∩ the tenant's ∩ the queue's ∩ that of both.
--
-- The documents that come of it are written down when a ceiling or a binding changes, and not by whoever enqueues: two
-- producers that had to write the same one would wait for each other's transaction. `policy_effective` has a row for each
-- pair of a bound tenant, or any other (''), and a bound queue, or any other (0).
--
-- Accepted jobs are judged again by the claim that meets them (0035).

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- Documents that narrow. They are not among those of `policy`, under which jobs run: each of these is half of one.
create table policy_part (
  digest text primary key check (digest = 'sha256:' || encode(sha256(convert_to(document, 'UTF8')), 'hex')),
  document text not null,
  added_at timestamptz not null default clock_timestamp(),
  added_by name not null default session_user
);

-- What was bound to what, and when; of one tenant and queue the last row counts. Without a digest it is bound to nothing.
create table policy_binding (
  id bigint generated always as identity primary key,
  tenant text check (tenant ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
  queue smallint,
  digest text references policy_part,
  since timestamptz not null default clock_timestamp(),
  set_by name not null default session_user,
  check (tenant is not null or queue is not null)
);

-- A document as somebody wrote it, with its comments and its lines, so that an explanation can point to one. Whoever wrote the same
-- document first is quoted.
create table policy_source (
  digest text primary key,
  source text not null check (octet_length(source) <= 65536),
  added_at timestamptz not null default clock_timestamp(),
  added_by name not null default session_user
);

create table policy_effective (
  tenant text not null,
  queue smallint not null,
  digest text not null references policy,
  primary key (tenant, queue)
);

-- Not rewritten, as `policy` is not.
do $$
declare
  kept text;
begin
  foreach kept in array array['policy_part', 'policy_binding', 'policy_source'] loop
    execute format('create trigger keep before update or delete on %I for each row execute function refuse_change()', kept);
    execute format('create trigger keep_all before truncate on %I execute function refuse_change()', kept);
  end loop;
end
$$;

insert into policy_effective (tenant, queue, digest) select '', 0, digest from current_policy();

create function current_bindings() returns setof policy_binding
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return query select b.* from policy_binding b
  where b.digest is not null and not exists (
    select from policy_binding l
    where l.id > b.id and l.tenant is not distinct from b.tenant and l.queue is not distinct from b.queue);
end
$$;

-- The entries of a list that are in another one, too, in the order of the first.
create function common_words(list jsonb, others jsonb) returns jsonb
language plpgsql immutable security definer set search_path = cordon, pg_temp as $$
begin
  return coalesce((
    select jsonb_agg(w.value order by w.number) from jsonb_array_elements(list) with ordinality w (value, number)
    where others ? (w.value #>> '{}')), '[]');
end
$$;

-- A whole document narrowed by one that says less. Where both say the same, or `part` says more, the text of `wide` stays, so
-- that what is not narrowed keeps its digest.
create function narrow_policy(wide jsonb, part jsonb) returns jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  result jsonb := wide;
  l record;
  most jsonb;
  usual jsonb;
  warm jsonb := wide -> 'warm' -> 'python3';
  other constant jsonb := part -> 'warm' -> 'python3';
begin
  for l in select * from limit_names() loop
    most := result -> 'ceilings' -> l.name;
    if part -> 'ceilings' ? l.name then
      if read_limit(l.name, l.kind, part -> 'ceilings' -> l.name) < read_limit(l.name, l.kind, most) then
        most := part -> 'ceilings' -> l.name;
        result := jsonb_set(result, array['ceilings', l.name], most);
      end if;
    end if;
    -- What a job gets that asks for nothing is no permission: the nearest document says it, below the ceiling.
    usual := coalesce(part -> 'defaults' -> l.name, result -> 'defaults' -> l.name);
    if read_limit(l.name, l.kind, usual) > read_limit(l.name, l.kind, most) then
      usual := most;
    end if;
    result := jsonb_set(result, array['defaults', l.name], usual);
  end loop;
  if part ? 'runtimes' then
    result := jsonb_set(result, '{runtimes}', common_words(result -> 'runtimes', part -> 'runtimes'));
  end if;
  if part ? 'waivers' and result ? 'waivers' then
    result := jsonb_set(result, '{waivers}', common_words(result -> 'waivers', part -> 'waivers'));
  end if;
  if part -> 'outputs' ->> 'on' = 'memory' and result -> 'outputs' ->> 'on' = 'disk' then
    result := jsonb_set(result, '{outputs,on}', '"memory"');
  end if;
  if part ? 'warm' and warm is not null then
    if other is null then
      result := jsonb_set(result, '{warm}', '{}');
    else
      if warm -> 'mode' <> other -> 'mode' then
        -- The one that shares no memory.
        warm := jsonb_set(warm, '{mode}', '"interpreter"');
      end if;
      if warm ? 'imports' then
        warm := jsonb_set(warm, '{imports}', common_words(warm -> 'imports', coalesce(other -> 'imports', '[]')));
      end if;
      result := jsonb_set(result, '{warm,python3}', warm);
    end if;
  end if;
  return result;
end
$$;

-- Refuses what is no document that narrows, in the words of `check_policy`: it is judged as what it would make of the
-- ceiling if each of its limits were allowed.
create function check_part(part jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  limits constant text[] := array(select n.name from limit_names() n);
  whole jsonb := (current_policy()).document;
  member text;
begin
  perform check_members('', part, array['version'],
    array['ceilings', 'defaults', 'outputs', 'runtimes', 'waivers', 'warm']);
  foreach member in array array['ceilings', 'defaults'] loop
    if part ? member then
      perform check_members(member, part -> member, '{}', limits);
    end if;
  end loop;
  whole := jsonb_set(whole, '{ceilings}', whole -> 'ceilings' || coalesce(part -> 'ceilings', '{}'));
  -- A default of the ceiling's own is not at fault where the part's ceiling is lower.
  whole := jsonb_set(whole, '{defaults}', whole -> 'ceilings' || coalesce(part -> 'defaults', '{}'));
  perform check_policy(whole || (part - 'ceilings' - 'defaults'));
end
$$;

create function digest_of(canonical text) returns text
language plpgsql immutable security definer set search_path = cordon, pg_temp as $$
begin
  return 'sha256:' || encode(sha256(convert_to(canonical, 'UTF8')), 'hex');
end
$$;

-- Writes a whole document down, if it is new, and returns its name.
create function keep_policy(document jsonb) returns text
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  canonical constant text := canonical_json(keep_policy.document);
begin
  perform check_policy(keep_policy.document);
  insert into policy (digest, document) values (digest_of(canonical), canonical) on conflict do nothing;
  return digest_of(canonical);
end
$$;

create function keep_source(digest text, source text) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  if octet_length(keep_source.source) > 65536 then
    perform refuse('22023', 'policy', format('%s bytes; at most 65536 are allowed', octet_length(keep_source.source)));
  elsif keep_source.source is not null then
    insert into policy_source (digest, source) values (keep_source.digest, keep_source.source) on conflict do nothing;
  end if;
end
$$;

-- What is laid over what, for a tenant in a queue (null is any without a binding of its own), and what comes of it. The least
-- particular first, whose defaults give way to those behind it. With a `trial` as if that stood in the place of the ceiling
-- (no tenant, no queue) or was bound.
create function policy_steps(
  of_tenant text, of_queue smallint, trial jsonb default null, trial_tenant text default null,
  trial_queue smallint default null
) returns table (scope text, digest text, document jsonb, since timestamptz, set_by name)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  is_ceiling constant boolean := trial is not null and trial_tenant is null and trial_queue is null;
  b record;
begin
  scope := 'ceiling';
  if is_ceiling then
    digest := digest_of(canonical_json(trial));
    document := trial;
  else
    select f.digest, p.document::jsonb, f.since, f.added_by into digest, document, since, set_by
    from policy_in_force f join policy p on p.digest = f.digest order by f.id desc limit 1;
  end if;
  return next;
  for b in
    select w.* from (
      select c.tenant, c.queue, c.digest, p.document::jsonb as part, c.since, c.set_by
      from current_bindings() c join policy_part p on p.digest = c.digest
      where trial is null or is_ceiling or c.tenant is distinct from trial_tenant or c.queue is distinct from trial_queue
      union all
      select trial_tenant, trial_queue, digest_of(canonical_json(trial)), trial, null, null
      where trial is not null and not is_ceiling
    ) w (tenant, queue, digest, part, since, set_by)
    order by w.queue is not null, w.tenant is not null
  loop
    continue when b.tenant <> coalesce(of_tenant, '') or b.queue <> coalesce(of_queue, 0);
    document := narrow_policy(document, b.part);
    scope := concat_ws(' in ', 'tenant ' || b.tenant, 'queue ' || (select q.name from queue q where q.id = b.queue));
    digest := b.digest;
    since := b.since;
    set_by := b.set_by;
    return next;
  end loop;
end
$$;

create function effective_document(
  of_tenant text, of_queue smallint, trial jsonb default null, trial_tenant text default null,
  trial_queue smallint default null
) returns jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return (
    select s.document
    from policy_steps(of_tenant, of_queue, trial, trial_tenant, trial_queue) with ordinality s
    order by s.ordinality desc limit 1);
end
$$;

-- The policy that a job of this tenant in this queue is under now.
create function policy_for(of_tenant text, of_queue smallint) returns policy
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  found policy;
begin
  select p.* into strict found from policy_effective e join policy p on p.digest = e.digest
  where e.tenant in (of_tenant, '') and e.queue in (of_queue, 0) order by e.tenant desc, e.queue desc limit 1;
  return found;
end
$$;

-- Who changes a ceiling or a binding calls `settle_policies` (0035) last, which works `policy_effective` out anew.

drop function set_policy(text);

-- As in 0013. Puts a document in force for everybody. `source` is what somebody wrote it as.
create function set_policy(document text, source text default null) returns text
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  parsed constant jsonb := parse_policy(set_policy.document);
  name text;
  before text;
begin
  perform check_policy(parsed);
  -- One at a time, so that what the audit calls the policy before is that.
  lock table policy_in_force in share row exclusive mode;
  before := (select p.digest from policy_in_force p order by p.id desc limit 1);
  name := digest_of(canonical_json(parsed));
  if name is distinct from before then
    perform keep_policy(parsed);
    perform keep_source(name, set_policy.source);
    insert into policy_in_force (digest) values (name);
    insert into audit (what, detail) values ('policy_set', jsonb_build_object('policy', name, 'before', before));
    perform settle_policies();
  end if;
  return name;
end
$$;

-- The queue of that name, for an operator; null for none.
create function named_queue(name text) returns smallint
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  found_id smallint;
begin
  select q.id into found_id from queue q where q.name = named_queue.name;
  if found_id is null and named_queue.name is not null then
    perform refuse('42501', 'queue', shown(named_queue.name) || ' is unknown');
  end if;
  return found_id;
end
$$;

create function change_binding(tenant text, queue text, digest text) returns boolean
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  queue_id constant smallint := named_queue(change_binding.queue);
  before text;
begin
  if change_binding.tenant is null and queue_id is null then
    perform refuse('22023', 'tenant', 'is missing, and so is a queue',
      'name one of them or both; for everybody there is cordon policy set');
  elsif change_binding.tenant !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' then
    perform refuse('22023', 'tenant', shown(change_binding.tenant) || ' is no name of a tenant');
  end if;
  -- The same lock as for the ceiling: what is worked out of both must be of one moment.
  lock table policy_in_force in share row exclusive mode;
  before := (select b.digest from current_bindings() b
    where b.tenant is not distinct from change_binding.tenant and b.queue is not distinct from queue_id);
  if before is not distinct from change_binding.digest then
    return false;
  end if;
  insert into policy_binding (tenant, queue, digest) values (change_binding.tenant, queue_id, change_binding.digest);
  insert into audit (what, detail) values (
    case when change_binding.digest is null then 'policy_unbound' else 'policy_bound' end,
    jsonb_build_object('tenant', change_binding.tenant, 'queue', change_binding.queue,
      'policy', change_binding.digest, 'before', before));
  perform settle_policies();
  return true;
end
$$;

-- Narrows what a tenant, a queue, or a tenant in a queue may do, in the place of what was bound there before. Says whether there
-- is anybody of this tenant yet, because one that is misspelt is bound to nobody.
create function bind_policy(
  document text, tenant text default null, queue text default null, source text default null,
  out digest text, out is_known boolean)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  parsed constant jsonb := parse_policy(bind_policy.document);
  canonical text;
begin
  perform check_part(parsed);
  canonical := canonical_json(parsed);
  bind_policy.digest := digest_of(canonical);
  insert into policy_part (digest, document) values (bind_policy.digest, canonical) on conflict do nothing;
  perform keep_source(bind_policy.digest, bind_policy.source);
  perform change_binding(bind_policy.tenant, bind_policy.queue, bind_policy.digest);
  is_known := bind_policy.tenant is null or exists (select from principal p where p.tenant = bind_policy.tenant);
end
$$;

-- Takes a binding away; false where there is none.
create function unbind_policy(tenant text default null, queue text default null) returns boolean
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
begin
  return change_binding(unbind_policy.tenant, unbind_policy.queue, null);
end
$$;

-- Whoever asked for the policy in force on behalf of a job asks for the one of its tenant and queue.
do $$
declare
  change record;
  definition text;
begin
  for change in
    select * from (values
      ('enqueue_jobs(principal, text, text, jsonb[], text, timestamptz, int, timestamptz, text, uuid[], text, uuid, uuid)',
        'rules constant policy := current_policy();', 'rules constant policy := policy_for(me.tenant, queue_id);'),
      ('check_schedule(principal, text, jsonb)',
        'current_policy()', 'policy_for(me.tenant, open_queue(me, coalesce(document ->> ''queue'', ''default'')))')
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

grant execute on function set_policy(text, text), bind_policy(text, text, text, text), unbind_policy(text, text)
  to cordon_operator;

do $$
declare
  pinned text;
  setting text;
begin
  foreach pinned in array array['policy_for(text, smallint)'] loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
  end loop;
end
$$;
