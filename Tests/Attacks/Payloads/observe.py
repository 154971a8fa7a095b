# Keeps the book of what a payload met. Every entry is written at once, so that one that is killed has left its book.
import ctypes, errno, json, os, socket, stat, struct, sys, time

libc = ctypes.CDLL(None, use_errno=True)
book = {}


def note(name, value):
    book[name] = value


def save():
    """Writes the book into the result; in the last line of stdout it stands as well."""
    try:
        with open(os.environ["CORDON_RESULT"] + ".new", "w") as file:
            json.dump(book, file)
        os.rename(os.environ["CORDON_RESULT"] + ".new", os.environ["CORDON_RESULT"])
    except OSError:
        pass


def spelled(code):
    return errno.errorcode.get(code, str(code))


def attempt(name, act):
    """Notes `ok`, or the errno that the act met; returns what the act returned."""
    try:
        value = act()
        book[name] = "ok"
        return value
    except OSError as problem:
        book[name] = spelled(problem.errno)


def call(name, number, *arguments):
    """A system call by its number: `ok`, or the errno."""
    ctypes.set_errno(0)
    plain = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    value = libc.syscall(ctypes.c_long(number), *plain)
    book[name] = "ok" if value >= 0 else spelled(ctypes.get_errno())
    return value


def apart(name, act):
    """The act in a child of its own, which it may ruin; notes what the child met."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        book.clear()
        try:
            act()
        except OSError as problem:
            book["raised"] = spelled(problem.errno)
        os.write(writer, json.dumps(book).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read()
    status = os.waitpid(child, 0)[1]
    met = json.loads(text) if text else {}
    for key, value in met.items():
        book[name if key in ("it", "raised") else f"{name} {key}"] = value
    if os.WIFSIGNALED(status):
        book[name] = f"signal {os.WTERMSIG(status)}"


def end():
    save()
    print("seen " + json.dumps(book), flush=True)


