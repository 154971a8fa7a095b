# Every mount as the kernel lists it, with an attempt to make a directory in it.
only = sys.argv[1:2] == ["only"]
mounts = []
for line in open("/proc/self/mountinfo"):
    fields = line.split()
    dash = fields.index("-")
    path = fields[4].encode().decode("unicode_escape")
    mount = {"path": path, "options": fields[5], "type": fields[dash + 1], "propagation": " ".join(fields[6:dash])}
    if not only or path == os.environ["CORDON_OUTPUT"]:
        try:
            os.mkdir(path + "/made-by-a-job")
            os.rmdir(path + "/made-by-a-job")
            mount["mkdir"] = "ok"
        except OSError as problem:
            mount["mkdir"] = spelled(problem.errno)
        mounts.append(mount)
note("mounts", mounts)
if not only:
    for path in ("/etc/resolv.conf", "/etc/hosts", "/etc/passwd", "/etc/nsswitch.conf", "/usr/bin/env"):
        attempt("write " + path, lambda: os.close(os.open(path, os.O_WRONLY)))
        attempt("create " + path, lambda: os.close(os.open(path + ".new", os.O_CREAT | os.O_WRONLY)))


def run():
    copy = os.path.join(os.path.dirname(sys.argv[0]), "main.py")
    child = os.fork()
    if child == 0:
        try:
            os.execv(copy, [copy, "only"])
        except OSError as problem:
            # A file without the executable bit, or without an interpreter, answers differently on a mount that runs.
            os._exit(problem.errno)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, "exec")


if only:
    os.chmod(sys.argv[0], 0o755)
    with open(sys.argv[0], "r+") as file:
        file.write("#!/bin/true\n")
attempt("run the program's file", run)
