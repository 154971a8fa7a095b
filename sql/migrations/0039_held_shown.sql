-- What shows and counts waiting jobs tells the held ones from those with a time, and says why they are held; a record names the policy
-- that its attempt ran under; and what retention drops goes from `narrowed` and `held`, too.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

do $$
declare
  change record;
  definition text;
begin
  for change in
    select * from (values
      ('job_state(uuid)', $a$select 'scheduled', s.attempt + 1 from$a$,
        $b$select case when s.run_at = 'infinity' then 'held' else 'scheduled' end, s.attempt + 1 from$b$),
      ('jobs(text, text, int)', $a$('blocked', 'scheduled', 'queued',$a$, $b$('blocked', 'held', 'scheduled', 'queued',$b$),
      ('jobs(text, text, int)', 'is no state; use blocked, scheduled', 'is no state; use blocked, held, scheduled'),
      ('jobs(text, text, int)', $a$where jobs.state = 'scheduled' and ($a$,
        $b$where (jobs.state = 'scheduled' and s.run_at < 'infinity' or jobs.state = 'held' and s.run_at = 'infinity')
          and ($b$),
      ('jobs(text, text, int)', $a$'reason', a.reason,$a$,
        $b$'reason', coalesce(a.reason, (select h.reason from held h where h.job = j.id and s.state = 'held')),$b$),
      ('record(uuid, bigint)', $a$'reason', a.reason,$a$, $b$'reason', coalesce(a.reason,
        (select h.reason from held h where h.job = j.id and not over and now_state.state = 'held')),$b$),
      ('record(uuid, bigint)', $a$'policy', j.policy,$a$, $b$'policy', coalesce(
        (select n.policy from narrowed n where n.job = j.id and n.attempt = shown_attempt), j.policy),$b$),
      ('queues()', $a$(select count(*) from scheduled s where s.queue = q.id)$a$,
        $b$(select count(*) from scheduled s where s.queue = q.id and s.run_at < 'infinity'),
    'held', (select count(*) from scheduled s where s.queue = q.id and s.run_at = 'infinity')$b$),
      ('apply_retention()', $a$execute format('drop table %I', name);$a$, $b$execute format('drop table %I', name);
        if parent = 'job' then
          delete from narrowed where job >= uuid7_floor(week.begins) and job < uuid7_floor(week.begins + interval '7 days');
          delete from held where job >= uuid7_floor(week.begins) and job < uuid7_floor(week.begins + interval '7 days');
        end if;$b$)
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
