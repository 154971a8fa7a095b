-- The ledger of what an attempt reached: each decision of the broker is a line, chained to the one before it by its digest. A
-- worker writes the lines while the attempt runs, and those of its end for a moment after; their count and the last digest stand in
-- the attempt's record (`isolation.egress`). Whoever has the lines can check them alone (`cordon egress --verify`).

set local role cordon_owner;
set local search_path = cordon, pg_temp;

create table egress_line (
  job uuid not null,
  attempt smallint not null,
  seq bigint not null check (seq between 1 and 10000),
  line text not null check (octet_length(line) <= 8192),
  primary key (job, attempt, seq)
) partition by range (job);
create table egress_line_default partition of egress_line default;
create trigger keep before update or delete on egress_line for each row execute function refuse_change();
create trigger keep_all before truncate on egress_line_default for each statement execute function refuse_change();

alter table egress_line enable row level security;
grant select on egress_line to cordon_reader;
create policy of_own_tenant on egress_line for select to cordon_reader
  using (exists (select from job j where j.id = egress_line.job));

-- Keeps lines of an attempt that this worker holds, or held a minute ago; false when it is neither. Lines that are there already
-- change nothing; what does not follow the line before it is refused.
create function append_egress(worker bigint, job uuid, token bigint, lines text[]) returns boolean
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(append_egress.worker);
  held smallint;
  head text;
  l record;
begin
  if not coalesce(cardinality(lines) between 1 and 1000, false) then
    perform refuse('22023', 'lines', 'must be 1 to 1000');
  end if;
  select x.attempt into held from lease x
  where x.job = append_egress.job and x.token = append_egress.token and x.worker = me.id;
  if not found then
    select a.attempt into held from attempt a
    where a.job = append_egress.job and a.token = append_egress.token and a.worker = me.id
      and a.finished_at > clock_timestamp() - interval '1 minute';
    if not found then
      return false;
    end if;
  end if;
  for l in
    select t.line, t.line::jsonb as said, (t.line::jsonb ->> 'seq')::bigint as seq
    from unnest(lines) with ordinality t (line, number) order by t.number
  loop
    if head is null then
      head := (select e.line::jsonb ->> 'hash' from egress_line e
        where e.job = append_egress.job and e.attempt = held and e.seq = l.seq - 1);
      if head is null and l.seq > 1 then
        perform refuse('22023', 'lines', format('line %s follows nothing', l.seq));
      end if;
    end if;
    if l.said ->> 'previous' is distinct from coalesce(head, l.said ->> 'previous') then
      perform refuse('22023', 'lines', format('line %s does not follow the line before it', l.seq));
    end if;
    insert into egress_line (job, attempt, seq, line) values (append_egress.job, held, l.seq, l.line) on conflict do nothing;
    head := l.said ->> 'hash';
  end loop;
  return true;
end
$$;

-- Lines of an attempt's ledger after a number; without an attempt, of the one that runs, or else of the last that ended.
create function egress(job uuid, attempt bigint default null, after bigint default 0, most int default 10000)
returns table (attempt_number int, token bigint, seq bigint, line text)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  j constant job := visible_job(egress.job, sees_all());
  wanted constant bigint := coalesce(egress.attempt, (select l.attempt from lease l where l.job = j.id),
    (select max(a.attempt) from attempt a where a.job = j.id));
  its_token constant bigint := coalesce((select l.token from lease l where l.job = j.id and l.attempt = wanted),
    (select a.token from attempt a where a.job = j.id and a.attempt = wanted));
begin
  if not coalesce(most between 1 and 10000, false) then
    perform refuse('22023', 'limit', format('%s is not 1 to 10000', coalesce(most::text, 'null')));
  end if;
  return query
    select e.attempt::int, its_token, e.seq, e.line from egress_line e
    where e.job = j.id and e.attempt = wanted and e.seq > coalesce(egress.after, 0) order by e.seq limit most;
end
$$;

grant usage, create on schema cordon to cordon_reader;
select change_function(c.name, c.before, c.after) from (values
  ('record(uuid, bigint)', '''{"uid": null}'' || a.isolation', '''{"uid": null, "egress": null}'' || a.isolation'),
  ('ensure_partitions(int)', 'array[''job'', ''attempt'', ''log_chunk'']', 'array[''job'', ''attempt'', ''log_chunk'', ''egress_line'']'),
  ('apply_retention()', 'array[''attempt'', ''job'']', 'array[''egress_line'', ''attempt'', ''job'']')
) c (name, before, after);
select ensure_partitions();

revoke all on function append_egress(bigint, uuid, bigint, text[]), egress(uuid, bigint, bigint, int) from public;
grant execute on function append_egress(bigint, uuid, bigint, text[]) to cordon_worker;
grant execute on function egress(uuid, bigint, bigint, int) to cordon_producer, cordon_operator, cordon_auditor;

select pin_plans('append_egress(bigint, uuid, bigint, text[])');
select pin_plans('egress(uuid, bigint, bigint, int)');

alter function egress(uuid, bigint, bigint, int) owner to cordon_reader;
revoke create on schema cordon from cordon_reader;
