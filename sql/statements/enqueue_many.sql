-- Many jobs, all or none, in the order of their specifications.
select e.job::text as job
from pg_catalog.unnest(cordon.enqueue_many($1::text, cordon.parse_specifications($2::text[]), $3::int,
  lane => $4::text))
with ordinality e (job, number) order by e.number
