SELECT cordon.enqueue('default', '{
  "runtime": "python3",
  "code": "import sys; print(open(\"/input/greeting.txt\").read(), sys.argv[1:])",
  "args": ["--from", "SQL"],
  "inputs": {"greeting.txt": {"text": "hello"}},
  "limits": {"wall": "30s", "memory": "128MiB"}
}') AS job;
