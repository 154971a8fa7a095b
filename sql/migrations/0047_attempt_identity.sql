-- Who an attempt is to others, as its worker may say it in a token: asked when one is made, so that there is none for an attempt
-- whose lease is gone, and by the database's clock.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

create function attempt_identity(worker bigint, job uuid, token bigint) returns table (
  now_at timestamptz, deadline_at timestamptz, submitter name, policy text, code text)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(attempt_identity.worker);
begin
  return query
    select clock_timestamp(), l.deadline_at, j.enqueued_by, coalesce(
        (select n.policy from narrowed n where n.job = l.job and n.attempt = l.attempt), j.policy),
      coalesce(l.attribution ->> 'code', code_digest(j.specification))
    from lease l cross join lateral (select * from job where job.id = l.job offset 0) j
    where l.job = attempt_identity.job and l.token = attempt_identity.token and l.worker = me.id
      and l.started_at is not null and not l.cancel and not l.frozen;
end
$$;

revoke all on function attempt_identity(bigint, uuid, bigint) from public;
grant execute on function attempt_identity(bigint, uuid, bigint) to cordon_worker;

select pin_plans('attempt_identity(bigint, uuid, bigint)');
