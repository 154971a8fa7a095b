-- A producer in SQL: everything below is one transaction, and exists when it commits.
BEGIN;

-- One job. The same key and the same request again give the same job, for a day.
SELECT cordon.enqueue('default', '{
  "runtime": "bash", "code": "echo \"{\\\"rows\\\": 3}\" > $CORDON_RESULT; echo rows > $CORDON_OUTPUT/rows.txt",
  "retry": {"attempts": 3, "backoff": "exponential", "delay": "10s"}
}', key => 'load 2026-10', key_scope => 'queue', key_expires => '1 day') AS load \gset

-- Fan-out: several at once, after the first; each reads what that made.
SELECT cordon.enqueue_many('default', array(
  SELECT jsonb_build_object('runtime', 'bash', 'code', 'cat $CORDON_INPUT/rows.txt', 'args', jsonb_build_array(part::text),
    'inputs', jsonb_build_object('rows.txt', jsonb_build_object('artifact', :'load' || '/rows.txt')))
  FROM generate_series(1, 3) part), after => array[:'load']::uuid[]) AS parts \gset

-- Fan-in: the completion job. It runs whatever became of the others, but not after an hour from now.
SELECT cordon.enqueue('default', jsonb_build_object('runtime', 'python3', 'code', 'print("done")'),
  after => :'parts'::uuid[], on_failure => 'run', start_before => now() + interval '1 hour', priority => 2) AS last \gset

-- Later, and one at a time with all others of the lane, where an operator has limited it.
SELECT cordon.enqueue('default', '{"runtime": "bash", "code": "true"}',
  run_at => now() + interval '1 day', lane => 'ledger') AS later \gset

COMMIT;

SELECT cordon.cancel(:'later');
SELECT :'last' AS job;
