-- Plans that statistics cannot spoil. A worker's session lives for weeks and keeps the plan it made on its first
-- claims, when `job` was empty and a sequential scan was the cheapest thing there was; seen: claims that read every
-- partition from end to end. These functions always reach a few rows by key or by ctid, so the alternatives are
-- switched off, and so is JIT, which costs more than any of them. Hash joins stay, for the batches that are joined
-- with themselves; `offset 0` keeps each look-up in `job` a look-up by key. Whoever replaces one of these functions
-- sets this again: CREATE OR REPLACE forgets it.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

do $$
declare
  pinned text;
  setting text;
begin
  foreach pinned in array array[
    'promote(int)', 'claim(bigint, int)', 'start(bigint, uuid[], bigint[], text[])',
    'heartbeat(bigint, uuid[], bigint[])', 'attempt_published(bigint, uuid[], int[])',
    'append_log(bigint, uuid, bigint, text, bigint, bytea)', 'read_blob(bigint, uuid, bigint, text, int, int)',
    'complete(bigint, uuid[], bigint[], text[], text[])', 'give_back(worker, uuid[], bigint[], boolean, text)',
    'rescue(int)', 'visible_job(uuid, boolean)', 'cancel(uuid)', 'job_state(uuid)', 'record(uuid, bigint)',
    'jobs(text, text, int)', 'logs(uuid, bigint, bigint, int)']
  loop
    foreach setting in array array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_mergejoin']
    loop
      execute format('alter function %s set %I = off', pinned, setting);
    end loop;
  end loop;
end
$$;
