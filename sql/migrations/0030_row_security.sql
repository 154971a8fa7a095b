-- Row-level security for readers. What a person reads goes through functions whose owner is not the owner of the tables:
-- `cordon_reader`, whom the policies below hold to the rows of the session's tenant, whatever a function asks for. A
-- filter that is forgotten in a function then shows nothing of another tenant. What writes belongs to the tables' owner
-- still, and pays nothing for this.

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'cordon_reader') then
    begin
      create role cordon_reader nologin;
    exception when duplicate_object or unique_violation then
      -- Another database of this cluster is being migrated.
      null;
    end;
  end if;
  -- So that the owner may hand functions over, and replace them later.
  if not pg_catalog.pg_has_role('cordon_owner', 'cordon_reader', 'member') then
    begin
      grant cordon_reader to cordon_owner;
    exception when unique_violation or internal_error then
      if not pg_catalog.pg_has_role('cordon_owner', 'cordon_reader', 'member') then
        raise;
      end if;
    end;
  end if;
end
$$;

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- The tenant this session reads as; null for who has none.
create function own_tenant() returns text
language sql stable security definer set search_path = cordon, pg_temp as $$
  select p.tenant from principal p where p.role = session_user
$$;

-- Tables that name the tenant. Each function is asked once a statement: a subselect without a reference is no row's.
do $$
declare
  named text;
begin
  foreach named in array array['job', 'attempt', 'lease', 'lane', 'dead_letter', 'schedule'] loop
    execute format('alter table %I enable row level security', named);
    execute format('grant select on %I to cordon_reader', named);
    execute format($policy$create policy of_own_tenant on %I for select to cordon_reader
      using (tenant = (select own_tenant()) or (select sees_all()))$policy$, named);
  end loop;
  -- Tables whose rows are of a lane, and so of its tenant.
  foreach named in array array['ready', 'scheduled', 'blocked'] loop
    execute format('alter table %I enable row level security', named);
    execute format('grant select on %I to cordon_reader', named);
    execute format($policy$create policy of_own_tenant on %1$I for select to cordon_reader
      using (exists (select from lane n where n.id = %1$I.lane))$policy$, named);
  end loop;
end
$$;

alter table log_chunk enable row level security;
grant select on log_chunk to cordon_reader;
create policy of_own_tenant on log_chunk for select to cordon_reader
  using (exists (select from job j where j.id = log_chunk.job));

alter table principal enable row level security;
grant select on principal to cordon_reader;
create policy of_oneself on principal for select to cordon_reader using (role = session_user);

-- Of no tenant: what a record names of them is shown to whoever sees the record.
grant select on queue, worker to cordon_reader;

-- What the readers' functions call in their turn.
grant execute on function own_tenant(), sees_all(), refuse(text, text, text, text), shown(text), iso(timestamptz),
  place(job) to cordon_reader;

grant usage, create on schema cordon to cordon_reader;
do $$
declare
  reading text;
begin
  foreach reading in array array['visible_job(uuid, boolean)', 'job_state(uuid)', 'record(uuid, bigint)',
    'jobs(text, text, int)', 'logs(uuid, bigint, bigint, int)', 'dead_letters(text, int)', 'schedules(text, int)']
  loop
    execute format('alter function %s owner to cordon_reader', reading);
  end loop;
end
$$;
revoke create on schema cordon from cordon_reader;
