-- A job that waits alone begins with its claim: on a queue that is empty most of the time its worker has two round trips, two
-- commits and two writes of the lease between it and its code, and one of each is enough.
--
-- What such an attempt needs first must not take long, because its time runs: its program stands in the specification, and it has
-- no inputs. Where that does not hold, or there is anything to share, to limit or to choose, it is claimed as always and begins
-- by `start`. (`claim` and `start` in one call cost as much as two calls: `ops/bench queue --only pickup`, p50 over the best peer
-- 1.202 as two, 1.265 as one, 0.970 as here, where the lease is written once and nothing is shared out.)

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- For migrations: a small change of a function that is there, in its own text and with the settings it has. Fails where the text is
-- another than whoever wrote the change had before him.
create function change_function(name text, before text, after text) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
declare
  definition constant text := pg_get_functiondef(name::regprocedure);
begin
  if strpos(definition, before) = 0 then
    raise exception '% has no %', name, before;
  end if;
  execute replace(definition, before, after);
end
$$;

-- For migrations: what 0012 says of plans that statistics cannot spoil.
create function pin_plans(name text) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
declare
  setting text;
begin
  foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin'] loop
    execute format('alter function %s set %I = off', name::regprocedure, setting);
  end loop;
end
$$;
revoke all on function change_function(text, text, text), pin_plans(text) from public;

-- `lease_rows` begins what it leases where `begins` is given: what the worker knows of any attempt of its own. Such a commit waits for
-- the disk, as that of a start; and as a start it does not stand if something changed meanwhile.
do $$
declare
  change record;
  definition text := pg_get_functiondef('lease_rows(worker, text, tid[])'::regprocedure);
begin
  for change in
    select * from (values
      ('chosen tid[])', 'chosen tid[], begins jsonb default null)'),
      ('perform set_config(''synchronous_commit'', ''off'', true);',
        E'if begins is null then\n    perform set_config(''synchronous_commit'', ''off'', true);\n  end if;'),
      ('nextval(''fencing_token'') << 20 | (random() * 1048575)::int as token',
        'nextval(''fencing_token'') << 20 | (random() * 1048575)::int as token,
      -- It needs no more than its specification.
      begins is not null and coalesce(j.specification -> ''inputs'', ''{}'') = ''{}''
        and (j.specification ->> ''runtime'' = ''exec'' or jsonb_typeof(j.specification -> ''code'') = ''string''
          or coalesce(j.specification -> ''code'' ? ''text'', false)) as begun'),
      ('insert into lease (job, token, worker, attempt, queue, lane, rank, tenant, epoch, deadline_at)',
        'insert into lease (job, token, worker, attempt, queue, lane, rank, tenant, epoch, started_at, attribution, deadline_at)'),
      ('t.rank, t.tenant, in_epoch,',
        't.rank, t.tenant, in_epoch, case when t.begun then clock_timestamp() end,
      case when t.begun then begins || jsonb_build_object(''code'', code_digest(t.specification)) end,'),
      (E'    from taken t\n  )\n  select', E'    from taken t
  ), noted as (
    insert into audit (what, job, attempt, worker, detail)
    select ''started'', t.id, t.attempt, me.id, jsonb_build_object(''token'', t.token, ''host'', me.host) from taken t where t.begun
  )\n  select'),
      ('get diagnostics leased = row_count;', E'get diagnostics leased = row_count;
  if begins is not null and in_epoch <> (select p.epoch from policy_epoch p) then
    raise exception using errcode = ''40001'', message = ''claim: something changed meanwhile'', hint = ''ask again'';
  end if;')
    ) c (before, after)
  loop
    if strpos(definition, change.before) = 0 then
      raise exception 'lease_rows has no %', change.before;
    end if;
    definition := replace(definition, change.before, change.after);
  end loop;
  execute definition;
  drop function lease_rows(worker, text, tid[]);
end
$$;

-- A look of `claim`, which begins what it takes where that is all there is. `attribution` is what the worker knows of any attempt of
-- its own.
create function claim_begun(worker bigint, most int, look_behind int, attribution text) returns table (
  job uuid, attempt int, token bigint, tenant text, queue text, enqueued_by name, specification jsonb, limits jsonb,
  policy text, document text, params text, lane int, rank bigint, begun boolean)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(claim_begun.worker);
  known constant jsonb := claim_begun.attribution::jsonb;
  alone record;
  taken record;
  picked tid[];
begin
  if jsonb_typeof(known) is distinct from 'object' then
    perform refuse('22023', 'attribution', shown(known) || ' is no object');
  end if;
  if most > 0 and me.missing = '{}' and me.drained_at is null and not is_barred(me)
    and (offers_asked_for() <@ me.offers or not exists (select from policy p where not offers_needed(p.document) <@ me.offers))
    and not exists (select from scheduled s where s.run_at <= clock_timestamp())
    and not exists (select from principal p where p.role = session_user and (p.queues is not null or p.tenant is not null))
  then
    -- One job in all the queues that are served, and nothing that has a limit.
    select array_agg(f.ctid) as chosen, min(u.name) as queue,
      bool_and(u.state <> 'paused' and u.max_running is null and n.max_running is null and n.rate is null
        and w.max_running is null) as free
    into alone
    from unnest(me.queues) q (id)
    cross join lateral (
      select r.ctid, r.lane from ready r where r.queue = q.id order by r.queue, r.lane, r.rank, r.job limit 2) f
    join queue u on u.id = q.id join lane n on n.id = f.lane left join tenant w on w.name = n.tenant;
    if alone.free and cardinality(alone.chosen) = 1 then
      picked := array(select r.ctid from ready r where r.ctid = any (alone.chosen) for update skip locked);
      if picked <> '{}' then
        select l.* into taken from lease_rows(me, alone.queue, picked, known) l;
        -- A statement of its own, which sees what the one before did.
        return query
          select taken.job, taken.attempt, taken.token, taken.tenant, taken.queue, taken.enqueued_by, taken.specification,
            taken.limits, taken.policy, taken.document, taken.params, taken.lane, taken.rank, l.started_at is not null
          from lease l where l.job = taken.job;
        return;
      end if;
    end if;
  end if;
  return query select c.*, false from claim(me.id, most, '{}', '{}', claim_begun.look_behind) c;
end
$$;

revoke all on function claim_begun(bigint, int, int, text), lease_rows(worker, text, tid[], jsonb) from public;
grant execute on function claim_begun(bigint, int, int, text) to cordon_worker;

-- An attempt that its worker does not name does not run there, whether its lease says that it began or not: the answer to its claim,
-- or to its end, was lost.
select change_function('heartbeat(bigint, uuid[], bigint[])', 'where l.worker = me.id and l.started_at is null',
  'where l.worker = me.id');

select pin_plans('claim_begun(bigint, int, int, text)');
alter function claim_begun(bigint, int, int, text) set plan_cache_mode = force_generic_plan;
