import Foundation
import Glibc
import Jobs
import TestKit

/// What a job without grants tries on the network: it has none, and no socket that could use one.
enum NetworkCases {
  static let all: [AttackCase] = [nw01, nw21, nw22, nw23, nw25, nw37]

  private static let nw01 = AttackCase(
    id: "NW-01", what: "connect anywhere under a policy that grants nothing",
    payload: .python(
      """
      for family in (socket.AF_INET, socket.AF_INET6):
          for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
              attempt(f"socket {family.name} {kind.name}", lambda: socket.socket(family, kind).close())
      def connect():
          with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5): pass
      attempt("connect", connect)
      with open("/proc/self/net/dev") as file:
          note("interfaces", sorted(line.split(":")[0].strip() for line in file if ":" in line))
      with open("/proc/self/net/route") as file: note("routes", len(file.readlines()[1:]))
      """),
    arguments: { _ in [String(HostListener.shared.port)] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.metAll(evidence, prefix: "socket ", "EPERM")
      verdict.met(evidence, ["connect"], "EPERM")
      verdict.equal(evidence.seen["interfaces"], .array([.string("lo")]), "interfaces")
      verdict.equal(evidence.number("routes"), 0, "routes")
    },
    control: .host(
      check: { evidence, verdict in
        verdict.met(evidence, ["socket AF_INET SOCK_STREAM", "connect"], "ok")
      }))

  private static let nw21 = AttackCase(
    id: "NW-21", what: "ICMP, raw, packet, broadcast, multicast, mDNS, IPv6 link-local",
    payload: .python(
      """
      def send(address, port, *options, family=socket.AF_INET):
          with socket.socket(family, socket.SOCK_DGRAM) as one:
              for level, name, value in options: one.setsockopt(level, name, value)
              one.sendto(b"x", (address, port))
      attempt("icmp", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close())
      attempt("icmp datagram", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close())
      attempt("icmp6", lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58).close())
      attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close())
      attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3).close())
      attempt("broadcast", lambda: send("255.255.255.255", 9, (socket.SOL_SOCKET, socket.SO_BROADCAST, 1)))
      attempt("multicast", lambda: send("224.0.0.1", 9, (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)))
      attempt("mdns", lambda: send("224.0.0.251", 5353, (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)))
      attempt("link-local", lambda: send("fe80::1", 9, family=socket.AF_INET6))
      attempt("udp", lambda: send("127.0.0.1", 9))
      """),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.equal(evidence.seen.count, 10, "attempts")
      verdict.metAll(evidence, prefix: "", "EPERM", "EAFNOSUPPORT")
    },
    control: .host(
      check: { evidence, verdict in verdict.met(evidence, ["icmp", "raw", "packet", "udp"], "ok") }))

  private static let nw22 = AttackCase(
    id: "NW-22", what: "the sockets of the host's services by their paths, the queue's own among them",
    payload: .python(
      """
      import glob
      def connect(path):
          with socket.socket(socket.AF_UNIX) as one: one.connect(path)
      for path in sys.argv[1:]: attempt(path, lambda: connect(path))
      found = []
      for directory, _, names in os.walk("/"):
          if directory.startswith(("/proc", "/usr")): continue
          for name in names:
              try:
                  if stat.S_ISSOCK(os.lstat(os.path.join(directory, name)).st_mode): found.append(name)
              except OSError: pass
      note("sockets", found)
      """),
    arguments: { place in paths + [place.path + "/service", databaseSocket(place)] },
    prepare: { place in
      let listener = try LocalListener(path: place.path + "/service")
      return { listener.end() }
    },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.metAll(evidence, prefix: "/", "ENOENT")
      verdict.equal(evidence.seen["sockets"], .array([]), "sockets in sight")
    },
    control: .host(
      arguments: { [$0.path + "/service"] },
      check: { evidence, verdict in verdict.met(evidence, [evidence.place.path + "/service"], "ok") }))

  private static let paths = [
    "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock", "/run/systemd/private",
    "/run/systemd/notify", "/run/systemd/journal/socket", "/run/dbus/system_bus_socket", "/run/user/1000/bus",
    "/run/user/1000/keyring/ssh", "/tmp/ssh-agent", "/var/run/postgresql/.s.PGSQL.5432", "/tmp/.X11-unix/X0",
    "/dev/log", "/run/crio/crio.sock", "/run/snapd.socket",
  ]

  /// Where a worker of a house finds its database; every house lies in a directory of this form.
  private static func databaseSocket(_ place: Place) -> String {
    let houses = names(in: "/var/tmp").filter { $0.hasPrefix("cordon-house-") }
    for house in houses {
      let sockets = FileManager.default.enumerator(atPath: "/var/tmp/" + house + "/postgres")?.allObjects ?? []
      for case let path as String in sockets where path.hasSuffix(".s.PGSQL.5432") {
        return "/var/tmp/\(house)/postgres/\(path)"
      }
    }
    return "/var/tmp/no-database/.s.PGSQL.5432"
  }

  private static let nw23 = AttackCase(
    id: "NW-23", what: "a service of the host by its abstract name",
    payload: .python(
      """
      def connect(name):
          with socket.socket(socket.AF_UNIX) as one: one.connect("\\0" + name)
      attempt("abstract", lambda: connect(sys.argv[1]))
      with open("/proc/self/net/unix") as file: note("names", sum("@" in line for line in file))
      """),
    arguments: { ["cordon-attack-" + $0.path.suffix(36)] },
    prepare: { place in
      let listener = try LocalListener(abstract: "cordon-attack-" + place.path.suffix(36))
      return { listener.end() }
    },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.met(evidence, ["abstract"], "ECONNREFUSED")
      verdict.equal(evidence.number("names"), 0, "abstract names in sight")
    },
    control: .host(
      check: { evidence, verdict in
        verdict.met(evidence, ["abstract"], "ok")
        verdict.require((evidence.number("names") ?? 0) > 0, "no name is in sight")
      }))

  private static let nw25 = AttackCase(
    id: "NW-25",
    what: "the loopback interface of the host: PostgreSQL's port, a worker's, one that listens for certain",
    payload: .python(
      """
      def connect(port):
          with socket.create_connection(("127.0.0.1", port), timeout=5): pass
      for port in (5432, 8080, 9090, 9100, 22, int(sys.argv[1])): attempt(f"port {port}", lambda: connect(port))
      """),
    arguments: { _ in [String(HostListener.shared.port)] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.metAll(evidence, prefix: "port ", "EPERM")
    },
    control: .host(
      check: { evidence, verdict in verdict.met(evidence, ["port \(HostListener.shared.port)"], "ok") }))

  private static let nw37 = AttackCase(
    id: "NW-37", what: "listen, and be reached by the host or by another job",
    payload: listening,
    arguments: { [doorName($0), "0"] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.met(evidence, ["tcp", "bind"], "EPERM")
      verdict.met(evidence, ["control"], "ok")
      // Once more, and now somebody outside and in another cell knocks as long as it listens.
      let house = evidence.house!
      async let listening = house.evidence(
        listening.specification([doorName(evidence.place), "2"], label: "NW-37", asks: [:]), evidence.place)
      async let other = house.evidence(
        Payload.python(knocking).specification([doorName(evidence.place), "2"], label: "NW-37", asks: [:]),
        evidence.place)
      let host = try await HostCommand.run(
        "exec python3 -I -c \"$1\" \"$2\" 2", try knockingOnHost(), doorName(evidence.place))
      verdict.require(host.output.contains("\"knocks\": 0"), "the host reached it: \(host.output)")
      verdict.equal(try await other.number("knocks"), 0, "knocks of another job that were heard")
      verdict.equal(try await listening.number("others"), 0, "connections from elsewhere")
      // The control: what listens on the host is reached so.
      let listener = try LocalListener(abstract: doorName(evidence.place))
      defer { listener.end() }
      let heard = try await HostCommand.run(
        "exec python3 -I -c \"$1\" \"$2\" 0.1", try knockingOnHost(), doorName(evidence.place))
      verdict.require(heard.output.contains("\"knocks\": 1"), "control: nobody was reached: \(heard.output)")
    }, control: .within)

  private static let listening = Payload.python(
    """
    import select
    attempt("tcp", lambda: socket.socket().listen())
    def bind():
        with socket.socket() as one: one.bind(("0.0.0.0", 7000))
    attempt("bind", bind)
    one = socket.socket(socket.AF_UNIX)
    one.bind("\\0" + sys.argv[1])
    one.listen()
    with socket.socket(socket.AF_UNIX) as own: attempt("control", lambda: own.connect("\\0" + sys.argv[1]))
    one.accept()
    note("others", len(select.select([one], [], [], float(sys.argv[2]))[0]))
    """)

  private static let knocking = """
    end_of_time, heard = time.monotonic() + float(sys.argv[2]), 0
    while time.monotonic() < end_of_time and not heard:
        try:
            with socket.socket(socket.AF_UNIX) as one: one.connect("\\0" + sys.argv[1])
            heard = 1
        except OSError: time.sleep(0.02)
    note("knocks", heard)
    """

  private static func knockingOnHost() throws -> String {
    guard case .python(let text) = try Payload.python(knocking).resolved() else { return "" }
    return text.replacing("    save()\n", with: "")
  }

  private static func doorName(_ place: Place) -> String { "cordon-attack-door-" + place.path.suffix(36) }
}

/// A server on this host's own loopback interface that does not speak.
final class HostListener: Sendable {
  static let shared = HostListener()
  let port: UInt16

  private init() {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isThere = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, size) == 0 && listen(descriptor, 64) == 0 && getsockname(descriptor, $0, &size) == 0
      }
    }
    precondition(isThere, "no listener on 127.0.0.1: errno \(errno)")
    port = UInt16(bigEndian: address.sin_port)
  }
}

/// A server with a local name on this host that does not speak.
final class LocalListener: Sendable {
  private let descriptor: Int32

  convenience init(path: String) throws { try self.init(Array(path.utf8)) }
  convenience init(abstract name: String) throws { try self.init([0] + Array(name.utf8)) }

  private init(_ name: [UInt8]) throws {
    descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name) }
    let size = socklen_t(MemoryLayout<sa_family_t>.size + name.count)
    let isThere = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, size) == 0 && listen(descriptor, 8) == 0
      }
    }
    guard isThere else { throw Problem("no local listener: errno \(errno)") }
  }

  func end() { close(descriptor) }
}
