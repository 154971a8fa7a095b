import Foundation
import Jobs
import TestKit

/// What a job says inside a connection that a grant let through: other names in TLS, other requests than the granted ones.
enum RequestLineCases {
  static let all: [AttackCase] = [nw15, nw17, nw29, nw33]

  private static let nw15 = EgressCases.egress(
    "NW-15", "another name in TLS than in the tunnel, none, and one in many pieces", grants: ["opaque", "raw"],
    """
    def hello(name, versions=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        try: context.wrap_bio(into, out, server_hostname=name).do_handshake()
        except ssl.SSLWantReadError: pass
        return out.read()
    def pieces(record, size):
        body = record[5:]
        for at in range(0, len(body), size):
            part = body[at:at + size]
            yield record[:3] + len(part).to_bytes(2, "big") + part
    def answered(name, parts):
        # A server's first record is a handshake, 22; an alert is 21.
        try:
            with socket.create_connection(PROXY, timeout=10) as one:
                one.sendall(b"CONNECT other.internal:443 HTTP/1.1\\r\\nHost: other.internal:443\\r\\n\\r\\n")
                while not one.recv(65536).endswith(b"\\r\\n\\r\\n"): pass
                for part in parts: one.sendall(part)
                first = one.recv(1)
            note(name, {b"": "closed", b"\\x16": "served", b"\\x15": "alert"}.get(first, first.hex()))
        except OSError as problem: note(name, spelled(problem.errno))
    answered("hostile other", [hello("evil.test")])
    answered("hostile sibling", [hello("index.internal")])
    answered("hostile prefix", [hello("other.internal.evil.test")])
    answered("hostile none", [hello(None)])
    answered("hostile address", [hello("127.0.0.1")])
    answered("hostile pieces", list(pieces(hello("evil.test"), 1)))
    answered("hostile half", list(pieces(hello("evil.test"), 100)))
    answered("hostile no TLS", [b"GET / HTTP/1.1\\r\\nHost: other.internal\\r\\n\\r\\n"])
    twice = hello("other.internal")
    answered("hostile type", [b"\\x17" + twice[1:]])
    answered("control", [twice])
    """
  ) { evidence, verdict in
    verdict.metAll(evidence, prefix: "hostile ", "closed", "alert", "ECONNRESET", "EPIPE")
    verdict.met(evidence, ["control"], "served")
    let ledger = try await evidence.ledger()
    verdict.equal(ledger.allowed, ["opaque"], "what was allowed")
    try await EgressCases.refused(evidence, &verdict, atLeast: 9)
  }

  private static let nw17 = EgressCases.egress(
    "NW-17", "requests whose host two readers take for different ones, or whose end they do",
    grants: ["index", "plain"],
    """
    door, path = ("index.internal", 80), "/simple/" + sys.argv[1]
    get, host = f"GET {path} HTTP/1.1", "Host: index.internal"
    ask("hostile other host", door, get, "Host: evil.test")
    ask("hostile two hosts", door, get, host, "Host: evil.test")
    ask("hostile same host twice", door, get, host, host)
    ask("hostile no host", door, get, "X: y")
    ask("hostile absolute", door, f"GET http://evil.test{path} HTTP/1.1", host)
    ask("hostile absolute with the right host", door, f"GET http://index.internal{path} HTTP/1.1", "Host: evil.test")
    ask("hostile https", door, f"GET https://index.internal{path} HTTP/1.1", host)
    ask("hostile other port", door, get, "Host: index.internal:81")
    ask("hostile folded", door, get, "Host: index.internal\\r\\n evil.test")
    ask("hostile space before colon", door, get, "Host : index.internal")
    ask("hostile bare line feed", door, get + "\\nHost: evil.test", host)
    ask("hostile length and chunks", door, f"POST {path} HTTP/1.1", host, "Content-Length: 5", "Transfer-Encoding: chunked")
    ask("hostile two lengths", door, f"POST {path} HTTP/1.1", host, "Content-Length: 0", "Content-Length: 5")
    ask("hostile coding", door, f"POST {path} HTTP/1.1", host, "Transfer-Encoding: xchunked")
    ask("hostile upgrade", door, f"CONNECT evil.test:443 HTTP/1.1", host)
    ask("hostile dots", door, f"GET /simple/../{sys.argv[1]} HTTP/1.1", host)
    ask("hostile encoded dots", door, f"GET /simple/%2e%2e/{sys.argv[1]} HTTP/1.1", host)
    ask("hostile backslash", door, f"GET /simple\\\\..\\\\{sys.argv[1]} HTTP/1.1", host)
    ask("hostile query", door, f"GET {path}?data=1 HTTP/1.1", host)
    ask("hostile prefix", door, f"GET /simpler/{sys.argv[1]} HTTP/1.1", host)
    ask("hostile slashes", door, f"GET //simple/{sys.argv[1]} HTTP/1.1", host)
    ask("control", door, get.replace(sys.argv[1], sys.argv[1] + "-control"), host)
    """, mark: "r"
  ) { evidence, verdict in
    verdict.metAll(evidence, prefix: "hostile ", "400", "403", "405", "501", "closed")
    verdict.met(evidence, ["control"], "200")
    let mark = "r" + evidence.place.mark
    let seen = evidence.upstream.seen().split(separator: "\n").filter { $0.contains(mark) }
    verdict.equal(seen.count, 1, "requests that the server saw: \(seen)")
    try await EgressCases.refused(evidence, &verdict, atLeast: 21, unasked: ["evil.test"])
  }

  private static let nw29 = EgressCases.egress(
    "NW-29", "write to an index that may be read", grants: ["index", "plain", "seen"],
    """
    door, path = ("index.internal", 80), "/simple/" + sys.argv[1]
    for method in ("PUT", "POST", "PATCH", "DELETE", "MOVE", "PROPFIND", "get", "HEAD", "OPTIONS", "G\\tET"):
        ask(f"hostile {method!a}", door, f"{method} {path} HTTP/1.1", "Host: index.internal", "Content-Length: 0")
        ask(f"hostile {method!a} by URL", PROXY, f"{method} http://index.internal{path} HTTP/1.1", "Host: index.internal",
            "Content-Length: 0")
    for field in ("X-HTTP-Method-Override: PUT", "X-Method-Override: DELETE"):
        ask(f"hostile {field}", door, f"GET {path} HTTP/1.1", "Host: index.internal", field)
    ask("control", door, f"GET {path}-control HTTP/1.1", "Host: index.internal")
    """, mark: "w"
  ) { evidence, verdict in
    verdict.metAll(evidence, prefix: "hostile ", "400", "403", "405")
    verdict.met(evidence, ["control"], "200")
    let mark = "w" + evidence.place.mark
    let seen = evidence.upstream.seen().split(separator: "\n").filter { $0.contains(mark) }
    verdict.require(seen.count == 1 && seen.allSatisfy { $0.hasPrefix("GET ") }, "the server saw \(seen)")
    try await EgressCases.refused(evidence, &verdict, atLeast: 22)
  }

  private static let nw33 = EgressCases.egress(
    "NW-33", "read something from an endpoint that is only to be written to", grants: ["told", "plain"],
    """
    door = ("other.internal", 82)
    def words(door, path, host, method="POST"):
        with socket.create_connection(door, 5) as one:
            one.sendall(f"{method} {path} HTTP/1.1\\r\\nHost: {host}\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n".encode())
            got = b""
            while piece := one.recv(65536): got += piece
            return got.decode()
    note("answer", words(door, "/told", "other.internal:82"))
    note("control", words(("index.internal", 81), "/" + sys.argv[1], "index.internal:81", "GET"))
    for method, path in (("GET", "/told"), ("POST", "/told/more"), ("POST", "/told?q=1"), ("HEAD", "/told"), ("PUT", "/told")):
        ask(f"hostile {method} {path}", door, f"{method} {path} HTTP/1.1", "Host: other.internal:82", "Content-Length: 0")
    """, mark: "a"
  ) { evidence, verdict in
    verdict.met(evidence, ["answer"], "HTTP/1.1 200 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    verdict.require(
      evidence.seen["control"]?.string?.contains("a" + evidence.place.mark) == true, "control: no answer has a body")
    verdict.metAll(evidence, prefix: "hostile ", "403")
    try await EgressCases.refused(evidence, &verdict, atLeast: 5)
  }
}
