-- Statements over partitioned tables are planned once a session. By its own estimate the server took a new plan for each call,
-- because one with its values known names fewer partitions; but for one job the planning took several times as long as what was
-- planned. Which partitions there are to look into is found at run time as well.

set local role cordon_owner;

do $$
declare
  planned text;
begin
  foreach planned in array array['heartbeat(bigint, uuid[], bigint[])',
    'give_back(cordon.worker, uuid[], bigint[], boolean, text)', 'append_log(bigint, uuid, bigint, text, bigint, bytea)',
    'record(uuid, bigint)', 'job_state(uuid)']
  loop
    execute format('alter function cordon.%s set plan_cache_mode = force_generic_plan', planned);
  end loop;
end
$$;
