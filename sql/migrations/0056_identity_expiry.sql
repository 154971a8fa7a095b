-- A worker whose identity has expired may nothing more: it registers, claims, starts and beats no more, and what it still reports comes too
-- late. Its leases are ended as those of a worker that is gone. Until here an expiry stopped its registrations and claims alone.
--
-- Every call of a worker reads its row by `own_worker`, so that is where it is judged: one look-up by a key more. The claim judged it once
-- more by a function of its own (`is_barred`), which is left out.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- A late report of a worker that may say nothing more: true for what it had recorded before and asks again, else a note, one an attempt.
create function note_late(of_worker bigint, jobs uuid[], tokens bigint[]) returns table (job uuid, recorded boolean)
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  with own as (
    select l.job, l.attempt, l.token from unnest(jobs, tokens) g (job, token) join lease l on l.job = g.job and l.token = g.token
    where l.worker = of_worker
    union all
    select a.job, a.attempt, a.token from unnest(jobs, tokens) g (job, token) join attempt a on a.job = g.job and a.token = g.token
    where a.worker = of_worker and a.via <> 'complete'
  )
  insert into audit (what, job, attempt, worker, detail)
  select 'late', o.job, o.attempt, of_worker, jsonb_build_object('token', o.token, 'reason', 'the worker is revoked or has expired')
  from own o
  where not exists (
    select from audit x where x.job = o.job and x.attempt = o.attempt and x.what = 'late' and x.worker = of_worker);
  return query
    select g.job, exists (
      select from attempt a where a.job = g.job and a.token = g.token and a.worker = of_worker and a.via = 'complete')
    from unnest(jobs, tokens) g (job, token);
end
$$;
revoke all on function note_late(bigint, uuid[], bigint[]) from public;

-- As in 0036, and expired identities. `even_barred`: null instead of the refusal, for what is to be noted.
drop function own_worker(bigint);
create function own_worker(id bigint, even_barred boolean default false) returns worker
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me worker;
begin
  perform require_read_committed();
  select * into me from worker w where w.id = own_worker.id and w.role = session_user
    and coalesce((select p.expires_at from principal p where p.role = session_user) > clock_timestamp(), true);
  if not found then
    if not exists (select from worker w where w.id = own_worker.id and w.role = session_user) then
      perform refuse('CD410', 'worker', format('role %s has registered no worker %s', shown(session_user::text),
        coalesce(own_worker.id::text, 'null')), 'register again');
    elsif not even_barred then
      perform refuse('CD403', 'worker', format('the identity of role %s has expired', shown(session_user::text)),
        'give it more time: cordon principals limit, or have it enrol anew: cordon workers invite');
    end if;
    return null;
  end if;
  if exists (select from revoked) and worker_revocation(me) is not null then
    if even_barred then
      return null;
    end if;
    perform refuse('CD403', 'worker', worker_revocation(me));
  end if;
  return me;
end
$$;
revoke all on function own_worker(bigint, boolean) from public;

create or replace function is_barred(me worker) returns boolean
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return exists (
    select from revoked r
    where (r.kind, r.target) in (('worker', me.name), ('worker', me.id::text), ('principal', me.role::text)));
end
$$;

select change_function(c.name, c.before, c.after) from (values
  ('heartbeat(bigint, uuid[], bigint[])', 'where w.id = heartbeat.worker and w.role = session_user',
    'where w.id = heartbeat.worker and w.role = session_user
    and coalesce((select p.expires_at from principal p where p.role = session_user) > clock_timestamp(), true)'),
  ('complete(bigint, uuid[], bigint[], text[], text[])', 'own_worker(complete.worker)', 'own_worker(complete.worker, true)'),
  ('complete(bigint, uuid[], bigint[], text[], text[])', E'begin\n  -- Parsed once, and', E'begin
  if me.id is null then
    return query select * from note_late(complete.worker, jobs, tokens);
    return;
  end if;
  -- Parsed once, and')
) c (name, before, after);

select pin_plans('note_late(bigint, uuid[], bigint[])');
