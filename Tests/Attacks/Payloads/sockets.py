# Every family and type of socket, singly and in pairs, with the protocols that make a difference; netlink with all.
def meets(make):
    try:
        made = make()
        for one in made if isinstance(made, tuple) else (made,):
            one.close()
        return "ok"
    except OSError as problem:
        return spelled(problem.errno)


families = range(46) if sys.argv[1] == "all" else [int(f) for f in sys.argv[1:]]
single, pairs = {}, {}
for family in families:
    for kind in range(16):
        protocols = range(32) if family == 16 else (0, 1, 6, 17, 58, 132, 255)
        for protocol in protocols:
            single.setdefault(meets(lambda: socket.socket(family, kind, protocol)), set()).add(f"{family}/{kind}")
        pairs.setdefault(meets(lambda: socket.socketpair(family, kind)), set()).add(f"{family}/{kind}")
        # The flags beside the type must not lead past a comparison, and neither must the upper half of a register.
        flagged = kind | 0o2000000 | 0o4000
        numbers = [ctypes.c_long(n) for n in (41, family | 0xBEEF << 32, flagged, 0)]
        value = libc.syscall(*numbers)
        if value >= 0:
            os.close(value)
        single.setdefault("ok" if value >= 0 else spelled(ctypes.get_errno()), set()).add(f"{family}/{kind}")
note("single", {answer: sorted(found) for answer, found in single.items()})
note("pairs", {answer: sorted(found) for answer, found in pairs.items()})
