"""A producer in Python: the program's own rows and its jobs commit together. Needs psycopg2 and CORDON_DATABASE_URL."""

import json
import os
import time

import psycopg2

with psycopg2.connect(os.environ["CORDON_DATABASE_URL"]) as connection, connection.cursor() as cursor:
    specification = {
        "runtime": "python3",
        "code": "import json, os; json.dump({'sum': sum(range(10))}, open(os.environ['CORDON_RESULT'], 'w'))",
        "limits": {"wall": "30s", "memory": "128MiB"},
        "retry": {"attempts": 2, "on": ["failed", "timed_out"], "backoff": ["5s"]},
        "labels": {"team": "treasury"},
    }
    cursor.execute("SELECT cordon.enqueue('default', %s, priority => 3)", [json.dumps(specification)])
    (job,) = cursor.fetchone()

# The job exists from here on.
while True:
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT cordon.record(%s)", [job])
        (record,) = cursor.fetchone()
    if record["state"] == "finished":
        break
    time.sleep(0.1)
print(job, record["outcome"], record["result"])
