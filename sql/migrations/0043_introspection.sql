-- Whether an attempt lives: what the issuer's introspection endpoint asks before it calls a token active. A token shares the life of
-- its attempt, so it is over in the transaction that ends the attempt, whatever its signature says.
--
-- The group that may ask can do nothing else. It learns of a job only where it names the attempt and the fencing token as well, which
-- stand in the tokens that are shown to it.

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'cordon_introspector') then
    begin
      create role cordon_introspector nologin;
    exception when duplicate_object or unique_violation then
      -- Another database of this cluster is being migrated.
      null;
    end;
  end if;
end
$$;

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- The worker's silence is judged as `rescue` judges it, and here it counts before the rescue has come. Volatile, so that it sees what
-- the statement it stands in has just done.
create function attempt_is_live(job uuid, attempt int, token bigint) returns boolean
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  return exists (
    select from lease l join worker w on w.id = l.worker
    where l.job = attempt_is_live.job and l.attempt = attempt_is_live.attempt and l.token = attempt_is_live.token
      and l.started_at is not null and not l.cancel and not l.frozen
      and l.deadline_at >= clock_timestamp()
      and w.seen_at >= clock_timestamp() - make_interval(secs => w.lease_seconds));
end
$$;

grant usage on schema cordon to cordon_introspector;
grant execute on function installed_version(), attempt_is_live(uuid, int, bigint) to cordon_introspector;

select pin_plans('attempt_is_live(uuid, int, bigint)');
