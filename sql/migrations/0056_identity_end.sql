-- How identities end: by their time, by a kill, and for good a day later.
--
-- A worker whose identity has expired may nothing more: it registers, claims, starts and beats no more, and what it still reports comes too
-- late. Its leases are ended as those of a worker that is gone. Until here an expiry stopped its registrations and claims alone.
--
-- Every call of a worker reads its row by `own_worker`, so that is where it is judged: one look-up by a key more. The claim judged it once
-- more by a function of its own (`is_barred`), which is left out.
--
-- A kill bars the login besides. That is a second wall: what a killed worker calls is refused by `own_worker` since 0036.

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
        case when exists (select from enrolment e where e.role = session_user) then 'have it enrol anew: cordon workers invite'
          else 'give it more time: cordon principals limit ROLE --expires' end);
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

-- For calls that name no worker, and that operators may make as well: by the login alone.
create function refuse_over_login() returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  killed constant text := (
    select format('principal %s is revoked: %s', r.target, r.reason) from revoked r
    where r.kind = 'principal' and r.target = session_user::text and r.mode = 'kill');
begin
  if (killed is not null or is_expired(session_user)) and not pg_has_role(session_user, 'cordon_operator', 'member') then
    perform refuse('CD403', 'worker', coalesce(killed, format('the identity of role %s has expired', shown(session_user::text))));
  end if;
end
$$;
revoke all on function refuse_over_login() from public;

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
  -- Parsed once, and'),
  ('due_schedules(int)', E'begin\n  return query', E'begin\n  perform refuse_over_login();\n  return query'),
  ('fire_schedule(text, text, bigint, timestamptz[], timestamptz, timestamptz, timestamptz, timestamptz)',
    E'begin\n  select * into s from', E'begin\n  perform refuse_over_login();\n  select * into s from'),
  ('break_schedule(text, text, bigint, text)', E'begin\n  update schedule', E'begin\n  perform refuse_over_login();\n  update schedule'),
  ('rescue(int)', E'begin\n  perform promote(most);', E'begin\n  perform refuse_over_login();\n  perform promote(most);'),
  ('apply_retention()', E'begin\n  if not exists (select from retention', E'begin\n  perform refuse_over_login();\n  if not exists (select from retention')
) c (name, before, after);

select pin_plans('note_late(bigint, uuid[], bigint[])');

-- Bars the logins of what is killed, and ends the sessions of all that are barred or have expired a while ago. Sessions are ended first,
-- so that none of theirs keeps this waiting, and once more by whoever looks next: one may have come in before the commit of the bar.
create function bar_revoked_logins() returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp set lock_timeout = '500ms' as $$
#variable_conflict use_column
declare
  e record;
begin
  for e in select r.role, r.reason from revoked_enrolments() r join enrolment n on n.role = r.role where n.barred_at is null loop
    begin
      perform cordon_logins.end_sessions(e.role);
      update enrolment n set barred_at = clock_timestamp() where n.role = e.role;
      update principal p set expires_at = least(p.expires_at, clock_timestamp()) where p.role = e.role;
      perform cordon_logins.bar_login(e.role);
      insert into audit (what, detail) values ('identity_barred', jsonb_build_object('role', e.role, 'reason', e.reason));
    exception when lock_not_available or internal_error then
      -- internal_error is "tuple concurrently updated": it renews at this moment. The next look finds it.
      null;
    end;
  end loop;
  -- Who has expired has had the time to say what it still had to.
  for e in
    select n.role from enrolment n left join principal p on p.role = n.role
    where n.barred_at is not null or p.expires_at < clock_timestamp() - interval '10 minutes'
  loop
    perform cordon_logins.end_sessions(e.role);
  end loop;
end
$$;

select change_function('enforce_revocations(bigint)', E'    end;\n  end loop;\nend\n', E'    end;
  end loop;
  if only_worker is null then
    perform bar_revoked_logins();
  end if;
end
');
select change_function('revoke(text, text, text, text)', 'when ''worker'' then exists (select from worker w where w.name',
  'when ''worker'' then exists (select from enrolment e where e.name = revoke.target)
      or exists (select from worker w where w.name');

-- Removes logins whose time has been over for a day, and names them. None that still holds a lease: its end is recorded by its role.
create function reap_logins() returns setof text
language plpgsql volatile security definer set search_path = cordon, pg_temp set lock_timeout = '1s' as $$
#variable_conflict use_column
declare
  past constant timestamptz := clock_timestamp() - interval '1 day';
  old record;
  why text;
begin
  perform refuse_over_login();
  if not pg_try_advisory_xact_lock(hashtext('cordon.reap_logins')) then
    return;
  end if;
  perform bar_revoked_logins();
  for old in
    select t.role, 'join_token_removed' as what from join_token t where coalesce(t.used_at, t.withdrawn_at, t.expires_at) < past
    union all
    select e.role, 'identity_removed' from enrolment e left join principal p on p.role = e.role
    where (e.barred_at < past or p.expires_at < past)
      and not exists (select from lease l join worker w on w.id = l.worker where w.role = e.role)
  loop
    begin
      perform cordon_logins.end_sessions(old.role);
      perform cordon_logins.bar_login(old.role);
      why := cordon_logins.drop_login(old.role);
      if why is null then
        delete from join_token t where t.role = old.role;
        delete from enrolment e where e.role = old.role;
        delete from principal p where p.role = old.role and old.what = 'identity_removed';
        insert into audit (what, detail) values (old.what, jsonb_build_object('role', old.role));
        return next old.role::text;
      end if;
    exception when others then
      -- Later; whatever is the matter with one keeps no other.
      null;
    end;
  end loop;
end
$$;

revoke all on function bar_revoked_logins(), reap_logins() from public;
grant execute on function reap_logins() to cordon_worker, cordon_operator;
