# Every capability 0…63 in every set, and what prctl and capset would give back.
# The kernel refuses to say anything of a capability that it does not know.
last = max(n for n in range(64) if libc.prctl(23, n, 0, 0, 0) >= 0)
note("last", last)
for number in range(64):
    note(f"bounding {number}", libc.prctl(23, ctypes.c_ulong(number), 0, 0, 0))


def capset(effective, permitted, inheritable):
    header = struct.pack("II", 0x20080522, 0)
    sets = [effective, permitted, inheritable]
    low = struct.pack("III", *[s & 0xFFFFFFFF for s in sets])
    high = struct.pack("III", *[s >> 32 for s in sets])
    call("it", 126, header, low + high)


held = 0
for line in open("/proc/self/status"):
    if line.startswith("CapPrm:"):
        held = int(line.split()[1], 16)


def ambient(number):
    capset(held, held, held | 1 << number)
    ctypes.set_errno(0)
    value = libc.prctl(47, 2, ctypes.c_ulong(number), 0, 0)
    book["it"] = "ok" if value == 0 else spelled(ctypes.get_errno())


for number in range(64):
    # A capability that a kernel does not know is dropped without a word, so it has to be tried as one that is known.
    known = number if number <= last else last
    apart(f"effective {number}", lambda: capset(1 << known, 1 << known, 0))
    apart(f"inheritable {number}", lambda: capset(0, 0, 1 << known))
    apart(f"ambient {number}", lambda: ambient(number))


def prctl(name, *arguments):
    ctypes.set_errno(0)
    value = libc.prctl(*[ctypes.c_ulong(a) for a in arguments])
    book[name] = "ok" if value >= 0 else spelled(ctypes.get_errno())


apart("no_new_privs off", lambda: prctl("it", 38, 0, 0, 0, 0))
note("no_new_privs", libc.prctl(39, 0, 0, 0, 0))
apart("securebits", lambda: prctl("it", 28, 1, 0, 0, 0))
apart("set_mm", lambda: prctl("it", 35, 1, 0, 0, 0))
apart("map", lambda: prctl("it", 35, 14, 0, 0, 0))
apart("endpoint", lambda: prctl("it", 35, 13, 999, 0, 0))
