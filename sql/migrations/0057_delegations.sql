-- Agents' jobs on behalf of persons. A person lets an agent of its tenant act for it: for some scopes, until some time. A job of that agent
-- may then say for whom it is (`on_behalf_of`), and for which of those scopes; its tokens say the same (RFC 8693). Nothing that a job or
-- its agent says is believed by itself: there is a row of the person's, or the enqueue is refused.
--
-- A delegation only ever takes part in less: a job has what it asked for and what is delegated by now. When it is ended or expires, or
-- its person does, what waits is held, what was claimed goes back, no token is made, those that were made are not active any more,
-- and what runs is ended by the next heartbeat of its worker, of which an end notifies. Who ends a delegation writes its row alone, and
-- so waits for nobody, and keeps nobody waiting.
--
-- A person that is revoked (0036) is treated as the role that put the job in.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- Never deleted: that one was there is why what runs is looked at.
create table delegation (
  person name not null,
  agent name not null,
  scopes text[] not null,
  expires_at timestamptz not null,
  made_at timestamptz not null default clock_timestamp(),
  made_by name not null default session_user,
  ended_at timestamptz,
  ended_by name,
  primary key (person, agent)
);

-- The words of RFC 6749, section 3.3; as many and as long as `Identity.Delegation` takes.
create function check_scopes(field text, value jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  at_fault jsonb;
begin
  if jsonb_typeof(value) is distinct from 'array' or jsonb_array_length(value) not between 1 and 32 then
    perform refuse('22023', field, 'must be an array of 1 to 32 scopes');
  end if;
  select a.value into at_fault from jsonb_array_elements(check_scopes.value) a
  where jsonb_typeof(a.value) <> 'string' or (a.value #>> '{}') !~ '^[\u0021\u0023-\u005b\u005d-\u007e]{1,64}$' limit 1;
  if found then
    perform refuse('22023', field, shown(at_fault) || ' is no scope: 1 to 64 printing characters without spaces, quotes and backslashes');
  elsif (select count(distinct a.value) from jsonb_array_elements(check_scopes.value) a) < jsonb_array_length(value) then
    perform refuse('22023', field, 'has a scope twice');
  end if;
end
$$;

create function check_on_behalf(field text, value jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  perform check_members(field, value, array['person', 'scopes']);
  -- A longer name than a role can have must not be cut to one that there is.
  if jsonb_typeof(value -> 'person') <> 'string' or octet_length(value ->> 'person') not between 1 and 63 then
    perform refuse('22023', field || '.person', shown(value -> 'person') || ' is no name of a role');
  end if;
  perform check_scopes(field || '.scopes', value -> 'scopes');
end
$$;

-- For whom a job is; null where it is for whoever put it in.
create function acts_for(specification jsonb) returns text
language sql immutable security definer set search_path = cordon, pg_temp as $$
  select specification -> 'on_behalf_of' ->> 'person'
$$;

-- Why an agent may not act for a person; null where it may.
create function delegation_over(person text, agent text) returns text
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  d delegation;
  giver principal;
begin
  select * into d from delegation x where x.person = delegation_over.person and x.agent = delegation_over.agent;
  if not found then
    return format('delegation: there is none of %s to %s', delegation_over.person, delegation_over.agent);
  elsif d.ended_at is not null then
    return format('delegation: that of %s to %s was ended by %s at %s', d.person, d.agent, d.ended_by, iso(d.ended_at));
  elsif d.expires_at <= clock_timestamp() then
    return format('delegation: that of %s to %s expired at %s', d.person, d.agent, iso(d.expires_at));
  elsif (select count(*) from pg_roles r where r.rolname in (d.person, d.agent)) < 2 then
    return format('delegation: of %s and %s not both are roles any more', d.person, d.agent);
  end if;
  select * into giver from principal p where p.role = d.person;
  if giver.role is null or giver.kind <> 'person' then
    return format('delegation: %s is no person any more', d.person);
  elsif giver.expires_at <= clock_timestamp() then
    return format('principal: %s expired at %s', d.person, iso(giver.expires_at));
  elsif not exists (select from principal p where p.role = d.agent and p.kind = 'agent' and p.tenant = giver.tenant) then
    return format('delegation: %s is no agent of the tenant of %s any more', d.agent, d.person);
  end if;
  return null;
end
$$;

-- Of what a job asks for, what is delegated by now.
create function delegated_scopes(principal name, specification jsonb) returns text[]
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return array(
    select s from delegation d cross join lateral unnest(d.scopes) s
    where d.person = acts_for(specification) and d.agent = delegated_scopes.principal
      and specification -> 'on_behalf_of' -> 'scopes' ? s order by s collate "C");
end
$$;

-- Why a job of a principal may not act for whom it is; null where it may, or is for nobody else.
create function undelegated_because(principal name, specification jsonb) returns text
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  if acts_for(specification) is null then
    return null;
  end if;
  return coalesce(delegation_over(acts_for(specification), principal::text), case
    when delegated_scopes(principal, specification) = '{}'
    then format('delegation: %s lets %s do nothing of what this job asks for', acts_for(specification), principal) end);
end
$$;

create function is_undelegated(of_job uuid) returns boolean
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return exists (select from delegation) and exists (
    select from job j where j.id = of_job and undelegated_because(j.enqueued_by, j.specification) is not null);
end
$$;

-- Lets an enqueue say for whom it is, or refuses. Why there is no delegation is nobody's to find out by asking.
create function require_delegation(me principal, base text, specification jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  person constant text := acts_for(specification);
  wider text;
begin
  if person is null then
    return;
  elsif delegation_over(person, me.role::text) is not null
    or exists (select from revoked r where r.kind = 'principal' and r.target = person)
  then
    perform refuse('42501', base || 'on_behalf_of', format('%s does not let %s act for it', shown(person), shown(me.role::text)),
      'that person, or an operator, lets an agent of its tenant: cordon principals delegate');
  end if;
  select s into wider from jsonb_array_elements_text(specification -> 'on_behalf_of' -> 'scopes') s
  where s <> all (delegated_scopes(me.role, specification)) order by 1 limit 1;
  if found then
    perform refuse('42501', base || 'on_behalf_of.scopes', format('%s is not delegated to %s', shown(wider), shown(me.role::text)));
  end if;
end
$$;

-- For whom this session may say who acts.
create function delegating_person(person text) returns text
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  if person <> session_user and not pg_has_role(session_user, 'cordon_operator', 'member') then
    perform refuse('42501', 'person', format('%s does not speak for %s', shown(session_user::text), shown(person)),
      'a person delegates for itself, an operator for others');
  end if;
  return coalesce(person, session_user::text);
end
$$;

-- Lets an agent act for a person, in place of what it was let do before: the session's own, or one that an operator names.
create function delegate(agent text, scopes text[], expires_at timestamptz, person text default null) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  giver principal;
  queues smallint[];
begin
  select * into giver from principal p where p.role = delegating_person(delegate.person);
  if giver.role is null or giver.kind <> 'person' then
    perform refuse('42501', 'person', shown(delegating_person(delegate.person)) || ' is no person',
      'an operator says who is: cordon principals limit ROLE --kind person');
  end if;
  perform refuse_revoked(giver);
  if not exists (select from principal p where p.role = delegate.agent and p.kind = 'agent' and p.tenant = giver.tenant) then
    perform refuse('42501', 'agent', format('%s is no agent of the tenant of %s', shown(delegate.agent), shown(giver.role::text)),
      'an operator says who is: cordon principals limit ROLE --kind agent');
  elsif not coalesce(isfinite(delegate.expires_at) and delegate.expires_at > clock_timestamp()
    and delegate.expires_at <= clock_timestamp() + interval '366 days', false)
  then
    perform refuse('22023', 'expires_at', 'must be a time within a year from now');
  end if;
  perform check_scopes('scopes', to_jsonb(delegate.scopes));
  insert into delegation as d (person, agent, scopes, expires_at) values (giver.role, delegate.agent, delegate.scopes, delegate.expires_at)
  on conflict (person, agent) do update set scopes = excluded.scopes, expires_at = excluded.expires_at,
    made_at = excluded.made_at, made_by = excluded.made_by, ended_at = null, ended_by = null
    -- What an operator ended is not the person's to bring back.
    where d.ended_at is null or d.ended_by in (giver.role, session_user) or pg_has_role(session_user, 'cordon_operator', 'member');
  if not found then
    perform refuse('42501', 'agent', (
      select format('the delegation to %s was ended by %s at %s', shown(d.agent::text), shown(d.ended_by::text), iso(d.ended_at))
      from delegation d where d.person = giver.role and d.agent = delegate.agent), 'an operator may give it again');
  end if;
  insert into audit (what, detail) values ('delegated', jsonb_build_object('person', giver.role, 'agent', delegate.agent,
    'scopes', delegate.scopes, 'expires_at', iso(delegate.expires_at)));
  -- What was held for the want of it is judged anew.
  with freed as (
    delete from scheduled where ctid = any (array(
      select s.ctid from held h join scheduled s on s.job = h.job cross join lateral (select * from job where job.id = h.job offset 0) j
      where s.run_at = 'infinity' and j.enqueued_by = delegate.agent and acts_for(j.specification) = giver.role
      for update of s skip locked))
    returning queue, lane, rank, job, attempt
  ), forgotten as (
    delete from held h using freed f where h.job = f.job
  ), again as (
    insert into ready (queue, lane, rank, job, attempt) select f.queue, f.lane, f.rank, f.job, f.attempt from freed f returning queue
  )
  select array_agg(distinct a.queue) into queues from again a;
  perform wake(q) from unnest(queues) q;
  -- It may be less than before.
  perform pg_notify('cordon_cancel', 'delegated');
end
$$;

-- Ends a delegation; false where there is none.
create function undelegate(agent text, person text default null) returns boolean
language plpgsql volatile security definer set search_path = cordon, pg_temp set lock_timeout = '5s' as $$
#variable_conflict use_column
declare
  giver constant text := delegating_person(undelegate.person);
begin
  update delegation d set ended_at = clock_timestamp(), ended_by = session_user
  where d.person = giver and d.agent = undelegate.agent and d.ended_at is null;
  if not found then
    return false;
  end if;
  insert into audit (what, detail) values ('undelegated', jsonb_build_object('person', giver, 'agent', undelegate.agent));
  perform pg_notify('cordon_cancel', 'undelegated');
  return true;
end
$$;

-- Those that the session gave or has; all of them for operators and auditors.
create function delegations() returns setof jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return query
    select jsonb_build_object('person', d.person, 'agent', d.agent, 'scopes', d.scopes, 'expires_at', iso(d.expires_at),
      'state', case when delegation_over(d.person, d.agent) is null then 'active' else 'over' end,
      'reason', delegation_over(d.person, d.agent), 'made_at', iso(d.made_at), 'made_by', d.made_by)
    from delegation d where sees_all() or session_user in (d.person, d.agent) order by d.person, d.agent;
end
$$;

-- Ends what runs of a worker's without a delegation that it needs.
create function end_undelegated(of_worker bigint) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
declare
  lapsed record;
begin
  for lapsed in
    select x.why, array_agg(x.job) as jobs from (
      select l.job, undelegated_because(j.enqueued_by, j.specification) as why
      from lease l cross join lateral (select * from job where job.id = l.job offset 0) j
      where l.worker = of_worker and l.started_at is not null and acts_for(j.specification) is not null
        and undelegated_because(j.enqueued_by, j.specification) is not null
      for update of l skip locked) x
    group by x.why
  loop
    perform end_revoked(lapsed.jobs, lapsed.why);
  end loop;
end
$$;

drop function attempt_identity(bigint, uuid, bigint, text);
-- As in 0050, and for whom it acts: null where it does for nobody else. There is no row where it may not any more.
create function attempt_identity(worker bigint, job uuid, token bigint, audience text) returns table (
  now_at timestamptz, deadline_at timestamptz, submitter name, policy text, code text, names_audience boolean, person text,
  scopes text[], delegated_until timestamptz)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(attempt_identity.worker);
begin
  return query
    select clock_timestamp(), l.deadline_at, j.enqueued_by, p.digest, coalesce(l.attribution ->> 'code', code_digest(j.specification)),
      coalesce(p.document::jsonb -> 'audiences' ? attempt_identity.audience, false)
        and coalesce((policy_for(j.tenant, l.queue)).document::jsonb -> 'audiences' ? attempt_identity.audience, false),
      acts_for(j.specification), delegated_scopes(j.enqueued_by, j.specification), (
        select least(d.expires_at, x.expires_at) from delegation d join principal x on x.role = d.person
        where d.person = acts_for(j.specification) and d.agent = j.enqueued_by)
    from lease l cross join lateral (select * from job where job.id = l.job offset 0) j
    join policy p on p.digest = coalesce(
      (select n.policy from narrowed n where n.job = l.job and n.attempt = l.attempt), j.policy)
    where l.job = attempt_identity.job and l.token = attempt_identity.token and l.worker = me.id
      and l.started_at is not null and not l.cancel and not l.frozen
      and undelegated_because(j.enqueued_by, j.specification) is null;
end
$$;

drop function attempt_is_live(uuid, int, bigint);
-- As in 0043; and whether the attempt may still act for whom it does, for all of the scopes that a token of it names.
create function attempt_is_live(job uuid, attempt int, token bigint, scopes text[] default '{}') returns boolean
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  return exists (
    select from lease l join worker w on w.id = l.worker
    where l.job = attempt_is_live.job and l.attempt = attempt_is_live.attempt and l.token = attempt_is_live.token
      and l.started_at is not null and not l.cancel and not l.frozen
      and l.deadline_at >= clock_timestamp()
      and w.seen_at >= clock_timestamp() - make_interval(secs => w.lease_seconds)
      and not is_undelegated(l.job)
      and (attempt_is_live.scopes = '{}' or exists (select from job j where j.id = l.job
        and attempt_is_live.scopes <@ delegated_scopes(j.enqueued_by, j.specification))));
end
$$;

grant usage, create on schema cordon to cordon_reader;
select change_function(c.name, c.before, c.after) from (values
  ('check_specification(text, jsonb, text, jsonb)', '''fetch'', ''retry''', '''fetch'', ''on_behalf_of'', ''retry'''),
  ('check_specification(text, jsonb, text, jsonb)', 'return effective_limits(base, asked -> ''limits'', document);',
    E'if asked ? ''on_behalf_of'' then
    perform check_on_behalf(base || ''on_behalf_of'', asked -> ''on_behalf_of'');
  end if;
  return effective_limits(base, asked -> ''limits'', document);'),
  ('enqueue_jobs(principal, text, text, jsonb[], text, timestamptz, int, timestamptz, text, uuid[], text, uuid, uuid)',
    'specification, me.tenant, document);',
    E'specification, me.tenant, document);
        perform require_delegation(me, replace(base, ''#'', (i - 1)::text), specification);'),
  ('barred_because(text, name, text, uuid, jsonb)', '(''policy'', barred_because.policy), (''job''',
    '(''principal'', acts_for(barred_because.specification)), (''policy'', barred_because.policy), (''job'''),
  ('barred_because(text, name, text, uuid, jsonb)', 'p.expires_at <= clock_timestamp()));',
    E'p.expires_at <= clock_timestamp()),
    undelegated_because(barred_because.principal, barred_because.specification));'),
  ('is_anybody_barred()', 'return exists (select from revoked)', 'return exists (select from revoked) or exists (select from delegation)'),
  ('leases_of(text, text, bigint)', 'j.enqueued_by = target or', 'target in (j.enqueued_by::text, acts_for(j.specification)) or'),
  ('bar_starts(worker, uuid[], bigint[], jsonb[])', 'if not exists (select from revoked r',
    E'if exists (select from delegation) then
    perform recall(array(
      select l.job from unnest(jobs, tokens) g (job, token) join lease l on l.job = g.job and l.token = g.token
      where l.worker = me.id and l.started_at is null and is_undelegated(l.job)));
  end if;
  if not exists (select from revoked r'),
  ('heartbeat(bigint, uuid[], bigint[])', 'if exists (select from lease l where l.worker = me.id and l.frozen) then',
    E'if exists (select from delegation) then
    perform end_undelegated(me.id);
  end if;
  if exists (select from lease l where l.worker = me.id and l.frozen) then'),
  ('record(uuid, bigint)', '''retry_of'', j.retry_of', E'''retry_of'', j.retry_of,
      ''on_behalf_of'', case when j.specification -> ''on_behalf_of'' ->> ''person'' is not null then
        (j.specification -> ''on_behalf_of'') || jsonb_build_object(''actors'', jsonb_build_array(j.enqueued_by)) end')
) c (name, before, after);
revoke create on schema cordon from cordon_reader;

revoke all on function check_scopes(text, jsonb), check_on_behalf(text, jsonb), acts_for(jsonb), delegation_over(text, text),
  delegated_scopes(name, jsonb), undelegated_because(name, jsonb), is_undelegated(uuid), require_delegation(principal, text, jsonb),
  delegating_person(text), delegate(text, text[], timestamptz, text), undelegate(text, text), delegations(), end_undelegated(bigint),
  attempt_identity(bigint, uuid, bigint, text), attempt_is_live(uuid, int, bigint, text[]) from public;
grant execute on function delegate(text, text[], timestamptz, text), undelegate(text, text) to cordon_producer, cordon_operator;
grant execute on function delegations() to cordon_producer, cordon_operator, cordon_auditor;
grant execute on function attempt_identity(bigint, uuid, bigint, text) to cordon_worker;
grant execute on function attempt_is_live(uuid, int, bigint, text[]) to cordon_introspector;

select pin_plans(f) from unnest(array['delegation_over(text, text)', 'delegated_scopes(name, jsonb)',
  'undelegated_because(name, jsonb)', 'is_undelegated(uuid)', 'end_undelegated(bigint)', 'attempt_identity(bigint, uuid, bigint, text)',
  'attempt_is_live(uuid, int, bigint, text[])', 'delegate(text, text[], timestamptz, text)']) f;
