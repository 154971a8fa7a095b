-- Attempts that were recorded under tokens after $1, and the seconds from the first one's start to the last one's end.
select count(*)::int as jobs, coalesce(extract(epoch from max(a.finished_at) - min(a.started_at)), 0)::float8 as seconds,
  count(*) filter (where a.outcome <> 'succeeded')::int as failed, coalesce(max(a.token), 0)::bigint as token
from cordon.attempt a where a.token > $1::bigint
