# Opens every file of proc for writing and closes it again; writes only to what can change nothing but this process.
own = {"self", "thread-self", str(os.getpid())}
outside, tried = [], 0
for top, directories, files in os.walk("/proc", followlinks=False):
    parts = top.split("/")
    if len(parts) > 2 and parts[2].isdigit() and parts[2] not in own:
        directories.clear()
        continue
    # What belongs to a descriptor or a namespace is no file of proc.
    directories[:] = [d for d in directories if d not in ("fd", "map_files", "ns", "cwd", "root")]
    for name in files:
        path = os.path.join(top, name)
        if os.path.islink(path) or not stat.S_ISREG(os.lstat(path).st_mode) if os.path.lexists(path) else True:
            continue
        tried += 1
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            continue
        if not (len(parts) > 2 and parts[2] in own):
            outside.append(path)
note("outside", outside[:2000])
note("tried", tried)
for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/kernel/modprobe",
             "/proc/sys/vm/drop_caches"):
    attempt(path, lambda: os.close(os.open(path, os.O_WRONLY)))


def write(path, text):
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text)
    finally:
        os.close(descriptor)


attempt("attr", lambda: write("/proc/self/attr/current", b"unconfined"))
attempt("oom_score_adj down", lambda: write("/proc/self/oom_score_adj", b"-1000"))
attempt("uid_map", lambda: write("/proc/self/uid_map", b"0 0 1"))
