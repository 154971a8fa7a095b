-- Many jobs, all or none, in the order of their specifications.
select e.job::text as job
from pg_catalog.unnest(cordon.enqueue_many($1::text, array(
  select cordon.parse_specification(s.text, 'specifications[' || s.number - 1 || '].')
  from pg_catalog.unnest($2::text[]) with ordinality s (text, number) order by s.number), $3::int,
  lane => $4::text))
with ordinality e (job, number) order by e.number
