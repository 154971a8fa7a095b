# What a job asks at the doors that its grants opened, and around them.
import ssl

PROXY = ("127.0.0.1", 3128)


def direct(name, address, port):
    """A connection of its own, around every door."""
    def act():
        with socket.socket() as one:
            one.settimeout(5)
            one.connect((address, port))
    try:
        attempt(name, act)
    except UnicodeError:
        book[name] = "no name"
    # What getaddrinfo says has negative numbers: no address, or none of this family.
    if book[name].startswith("-"):
        book[name] = "no name"


def said(to, request):
    """The status that bytes are answered with; `closed` without one, or the errno."""
    try:
        with socket.create_connection(to, timeout=10) as one:
            one.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer:
                got = one.recv(65536)
                if not got:
                    break
                answer += got
        return answer.split(b" ", 2)[1].decode() if answer.startswith(b"HTTP/1.") else "closed"
    except OSError as problem:
        return spelled(problem.errno)


def connect(name, authority):
    """Asks the proxy for a tunnel."""
    place = authority if isinstance(authority, bytes) else authority.encode()
    note(name, said(PROXY, b"CONNECT " + place + b" HTTP/1.1\r\nHost: " + place + b"\r\n\r\n"))


def proxied(name, host, path="/"):
    """Asks the proxy for a URL."""
    place = host if isinstance(host, bytes) else host.encode()
    request = b"GET http://" + place + path.encode() + b" HTTP/1.1\r\nHost: " + place + b"\r\n\r\n"
    note(name, said(PROXY, request))


def ask(name, to, *lines):
    """Lines of a request head, as they are."""
    note(name, said(to, b"\r\n".join(l if isinstance(l, bytes) else l.encode() for l in lines) + b"\r\n\r\n"))


def body(url):
    """What a door of mode http answers with, as an ordinary client reads it."""
    import urllib.request
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        return answer.read().decode()
