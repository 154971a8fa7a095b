-- A policy that gives less than it did when an attempt began ends what the attempt can reach, within the second in which its worker asks.
-- (What else it may do goes on: the kill switch ends that.)

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- Of the attempts that a worker holds, the tokens of those whose grants are not all in force any more, as they were.
create function egress_fallen(worker bigint, jobs uuid[], tokens bigint[]) returns setof bigint
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(egress_fallen.worker);
  a record;
begin
  for a in
    select l.token, coalesce((
        select jsonb_object_agg(g.key, g.value) from jsonb_each(p.document::jsonb -> 'grants') g
        where j.specification -> 'grants' ? g.key), '{}') as given,
      as_part((policy_for(j.tenant, l.queue)).document::jsonb) -> 'grants' as now
    from unnest(jobs, tokens) h (job, token)
    join lease l on l.job = h.job and l.token = h.token and l.worker = me.id
    cross join lateral (select * from job where job.id = l.job offset 0) j
    join policy p on p.digest = coalesce(
      (select n.policy from narrowed n where n.job = l.job and n.attempt = l.attempt), j.policy)
  loop
    if narrow_grants(a.given, a.now) <> a.given then
      return next a.token;
    end if;
  end loop;
end
$$;

revoke all on function egress_fallen(bigint, uuid[], bigint[]) from public;
grant execute on function egress_fallen(bigint, uuid[], bigint[]) to cordon_worker;

select pin_plans('egress_fallen(bigint, uuid[], bigint[])');
