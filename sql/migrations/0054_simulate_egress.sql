-- What a document would have decided of all that is on record: beside the jobs that were taken (0038) those that came to be held, what
-- jobs would have had less of, and what the broker decided while they ran.
--
-- Who was refused at enqueue is not on record and cannot be: the refusal is an error in the producer's own transaction, which takes
-- back whatever was written in it.
--
-- The broker's matching is Swift's, and it is not written a second time here: the database hands out the lines of its ledgers, page by
-- page, with the policy that each attempt ran under, and the document that would have been in force. `EgressTrial` judges.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- The lines of attempts of jobs that were enqueued since then, the newest first, before a line that was read.
create function past_egress(
  since interval, tenant text, queue text, before_job uuid, before_attempt int, before_seq bigint, most int default 1000)
returns table (
  job uuid, attempt int, seq bigint, line text, of_tenant text, of_queue text, grants jsonb, policy text)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  queue_id constant smallint := named_queue(past_egress.queue);
  first_id uuid;
begin
  if not coalesce(past_egress.since between interval '0' and interval '10 years' and most between 1 and 10000, false) then
    perform refuse('22023', 'since', 'must be up to ten years, and the number of lines 1 to 10000');
  end if;
  first_id := uuid7_floor(clock_timestamp() - past_egress.since);
  return query
    select e.job, e.attempt::int, e.seq, e.line, j.tenant, q.name,
      case when jsonb_typeof(j.specification -> 'grants') = 'array' then j.specification -> 'grants' else '[]' end,
      coalesce((select n.policy from narrowed n where n.job = e.job and n.attempt = e.attempt), j.policy)
    from egress_line e
    cross join lateral (select * from job where job.id = e.job offset 0) j
    join queue q on q.id = j.queue
    where e.job >= first_id
      and e.job <= coalesce(before_job, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
      and (e.job, e.attempt, e.seq) < (coalesce(before_job, 'ffffffff-ffff-ffff-ffff-ffffffffffff'),
        coalesce(before_attempt, 32767), coalesce(before_seq, 9223372036854775807))
      and (past_egress.tenant is null or j.tenant = past_egress.tenant) and (queue_id is null or j.queue = queue_id)
    order by e.job desc, e.attempt desc, e.seq desc limit most;
end
$$;

-- What would be in force for a tenant in a queue, were the document in force, or bound.
create function trial_document(document text, tenant text, queue text, of_tenant text, of_queue text) returns text
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return effective_document(trial_document.of_tenant, named_queue(trial_document.of_queue), parse_policy(trial_document.document),
    trial_document.tenant, named_queue(trial_document.queue))::text;
end
$$;

-- What one whole document has and another, that it might be narrowed to, has not, of what jobs have without asking for it by name.
create function silent_losses(before jsonb, after jsonb) returns table (member text, value text)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return query
    select 'audiences', a from jsonb_array_elements_text(coalesce(silent_losses.before -> 'audiences', '[]')) a
    where not coalesce(silent_losses.after -> 'audiences', '[]') ? a
    union all
    select 'filesystem.tmp', 'exec'
    where coalesce(silent_losses.before -> 'filesystem' ->> 'tmp', 'exec') = 'exec' and silent_losses.after -> 'filesystem' ->> 'tmp' = 'noexec';
end
$$;

-- Whether a job is given any credential under a document: only then has it to do with audiences.
create function uses_credentials(specification jsonb, document jsonb) returns boolean
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return jsonb_typeof(specification -> 'grants') = 'array' and exists (
    select from jsonb_each(coalesce(document -> 'grants', '{}')) g
    where specification -> 'grants' ? g.key and g.value ? 'credential');
end
$$;

-- One more of what is counted, by what tells it apart.
create function counted(counts jsonb, key text, job uuid, more jsonb) returns jsonb
language plpgsql immutable security definer set search_path = cordon, pg_temp as $$
begin
  return counts || jsonb_build_object(key, more || jsonb_build_object(
    'jobs', coalesce((counts -> key ->> 'jobs')::int, 0) + 1,
    'example', coalesce(counts -> key -> 'example', to_jsonb(counted.job))));
end
$$;

create function listed(counts jsonb) returns jsonb
language plpgsql immutable security definer set search_path = cordon, pg_temp as $$
begin
  return coalesce((
    select jsonb_agg(c.value order by (c.value ->> 'jobs')::int desc, c.key) from jsonb_each(counts) c), '[]');
end
$$;

-- As in 0038; and of what was held since then, what would not have been, and what jobs that were taken would have had less of.
create or replace function simulate_policy(
  document text, tenant text default null, queue text default null, since interval default '7 days', most int default 10000)
returns jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  trial constant jsonb := parse_policy(simulate_policy.document);
  queue_id constant smallint := named_queue(simulate_policy.queue);
  known jsonb := '{}';
  pair text;
  j record;
  lost record;
  seen int := 0;
  seen_held int := 0;
  refusal jsonb;
  refused jsonb := '{}';
  freed jsonb := '{}';
  losses jsonb := '{}';
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
    select p.id, p.tenant, p.queue, p.specification, (
      select a.detail ->> 'policy' from audit a where a.job = p.id and a.what = 'held' order by a.id desc limit 1) as held_by
    from job p
    where p.id >= uuid7_floor(clock_timestamp() - simulate_policy.since)
      and (simulate_policy.tenant is null or p.tenant = simulate_policy.tenant)
      and (queue_id is null or p.queue = queue_id)
    order by p.id desc limit most
  loop
    seen := seen + 1;
    pair := j.queue || ' ' || j.tenant;
    if not known ? pair then
      known := known || jsonb_build_object(pair, jsonb_build_array(effective_document(j.tenant, j.queue),
        effective_document(j.tenant, j.queue, trial, simulate_policy.tenant, queue_id)));
    end if;
    if j.held_by is not null then
      seen_held := seen_held + 1;
      refusal := to_jsonb(held_because(j.specification, (select p.document::jsonb from policy p where p.digest = j.held_by)));
      if refusal is not null and held_because(j.specification, known -> pair -> 1) is null then
        freed := counted(freed, refusal #>> '{}', j.id, jsonb_build_object('reason', refusal));
      end if;
    end if;
    refusal := request_refusal(j.specification, j.tenant, known -> pair -> 1);
    if refusal is null then
      for lost in select * from silent_losses(known -> pair -> 0, known -> pair -> 1) loop
        continue when lost.member = 'audiences' and not uses_credentials(j.specification, known -> pair -> 0);
        losses := counted(losses, lost.member || ' ' || lost.value, j.id,
          jsonb_build_object('member', lost.member, 'value', lost.value));
      end loop;
    elsif request_refusal(j.specification, j.tenant, known -> pair -> 0) is null then
      refused := counted(refused, refusal ->> 'reason', j.id,
        jsonb_build_object('reason', refusal -> 'reason', 'member', refusal -> 'member'));
    end if;
  end loop;
  return jsonb_build_object('jobs', seen, 'held', seen_held, 'policy', digest_of(canonical_json(trial)),
    'would_be_refused', listed(refused), 'would_not_be_held', listed(freed), 'would_lose', listed(losses));
end
$$;

revoke all on function past_egress(interval, text, text, uuid, int, bigint, int), trial_document(text, text, text, text, text)
  from public;
grant execute on function past_egress(interval, text, text, uuid, int, bigint, int), trial_document(text, text, text, text, text)
  to cordon_operator;

select pin_plans('past_egress(interval, text, text, uuid, int, bigint, int)');
select pin_plans('simulate_policy(text, text, text, interval, int)');

-- An enqueue asks for no kinds of inputs where the policy names none.
select change_function('check_specification(text, jsonb, text, jsonb)', 'perform check_sources(base, asked, document);',
  E'if document ? ''filesystem'' then\n    perform check_sources(base, asked, document);\n  end if;');
