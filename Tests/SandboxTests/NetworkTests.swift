import Glibc
import Jobs
import Kernel
import Synchronization
import Testing

@testable import Sandbox

/// A cell with listeners: what somebody outside holds is all that a job can reach.
@Suite("Networks with listeners", .serialized) struct NetworkTests {
  /// Where the job's connections come out.
  private final class Exit: Sendable {
    private let listeners = Mutex<[Descriptor]>([])

    func take(_ opened: [Descriptor]) { listeners.withLock { $0 = opened } }

    var count: Int { listeners.withLock { $0.count } }

    /// The next connection of a listener; nil while there is none.
    func accept(_ number: Int = 0) -> Descriptor? {
      let raw = listeners.withLock { $0.isEmpty ? -1 : Glibc.accept($0[number].raw, nil, nil) }
      return raw < 0 ? nil : Descriptor(owning: raw)
    }
  }

  private static let services: [RequestedNetwork.Listener] = [
    .init(address: 0x7F00_0002, port: 443), .init(address: 0x7F00_0003, port: 5432),
  ]

  private func start(
    _ bench: Bench, _ program: String, _ exit: Exit, limits: Limits = Limits(wallMilliseconds: 60_000)
  ) async throws -> (RunningCell, Stage) {
    let stage = try bench.sandbox.stage()
    do {
      try stage.writeNames([("127.0.0.2", "index.internal"), ("127.0.0.3", "ledger.internal")])
      let request = CellRequest(
        stage: stage, argv: ["/usr/bin/python3", "-I", "-c", program],
        environment: [("PATH", "/usr/bin:/usr/sbin"), ("LC_ALL", "C"), ("HOME", "/tmp")], limits: limits,
        network: RequestedNetwork(listeners: Self.services, opened: exit.take))
      return (try await bench.sandbox.run(request), stage)
    } catch {
      stage.remove()
      throw error
    }
  }

  @Test("an unmodified client reaches a granted name; its bytes come out at that name's listener and no other")
  func reaches() async throws {
    let client = """
      import socket
      s = socket.create_connection(("index.internal", 443))
      s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
      peer = s.getpeername()
      s.sendall(b"hello"); s.shutdown(socket.SHUT_WR)
      print(s.recv(100).decode(), peer)
      """
    try await withBench { (bench) async throws in
      let exit = Exit()
      let (cell, stage) = try await start(bench, client, exit)
      defer { stage.remove() }
      var connection: Descriptor?
      #expect(
        await eventually {
          connection = exit.accept()
          return connection != nil
        })
      #expect(exit.count == Self.services.count && exit.accept(1) == nil)
      let inside = try #require(connection)
      #expect(String(decoding: try inside.readAll(limit: 100), as: UTF8.self) == "hello")
      try inside.writeAll(Array("welcome".utf8))
      connection = nil
      shutdown(inside.raw, Int32(SHUT_RDWR))
      let ran = try await bench.finish(cell)
      #expect(ran.stdout == "welcome ('127.0.0.2', 443)\n", "\(ran.stderr)")
      #expect(ran.report.isolation.filter == bench.sandbox.facts.networkFilter)
      #expect(bench.sandbox.facts.networkFilter != bench.sandbox.facts.filter)
    }
  }

  @Test("nothing else is there: no other port, address, name, family, no listener of the job's own")
  func nothingElse() async throws {
    let probes = """
      import errno, socket
      def see(name, body):
        try: body(); print(name, "worked")
        except OSError as e: print(name, errno.errorcode.get(e.errno, e.errno) if not isinstance(e, socket.gaierror) else "no name")
      def connect(address): return lambda: socket.create_connection(address, timeout=5)
      see("port", connect(("index.internal", 80)))
      see("other service's port", connect(("ledger.internal", 443)))
      see("loopback", connect(("127.0.0.1", 5432)))
      see("metadata", connect(("169.254.169.254", 80)))
      see("host", connect(("10.0.0.1", 22)))
      see("name", connect(("example.com", 443)))
      see("v6", lambda: socket.socket(socket.AF_INET6))
      see("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
      see("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
      see("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
      see("mptcp", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262))
      see("listen", lambda: socket.socket().listen())
      def privileged(): socket.socket().bind(("127.0.0.1", 80))
      see("port 80", privileged)
      see("ulp", lambda: socket.socket().setsockopt(socket.IPPROTO_TCP, 31, b"tls"))
      hosts = open("/etc/hosts")
      print(hosts.read().count("internal"))
      see("hosts", lambda: open("/etc/hosts", "a"))
      """
    try await withBench { (bench) async throws in
      let (cell, stage) = try await start(bench, probes, Exit())
      defer { stage.remove() }
      let ran = try await bench.finish(cell)
      #expect(
        ran.stdout == """
          port ECONNREFUSED
          other service's port ECONNREFUSED
          loopback ECONNREFUSED
          metadata ENETUNREACH
          host ENETUNREACH
          name no name
          v6 EPERM
          udp EPERM
          raw EPERM
          netlink EPERM
          mptcp EPERM
          listen EPERM
          port 80 EACCES
          ulp EPERM
          2
          hosts EACCES

          """, "\(ran.stderr)")
    }
  }

  @Test("a cell without grants that comes after one with grants has no interface that is up and no socket")
  func nothingIsLeft() async throws {
    try await withBench { (bench) async throws in
      for _ in 0..<4 {
        let (cell, stage) = try await start(
          bench, "print('127.0.0.1' in open('/proc/self/net/fib_trie').read())", Exit())
        let ran = try await bench.finish(cell)
        stage.remove()
        #expect(ran.stdout == "True\n", "control: \(ran.stderr)")
        let plain = try await bench.bash("grep -c 127.0.0.1 /proc/self/net/fib_trie; grep internal /etc/hosts")
        #expect(plain.stdout == "0\n")
        let socket = try await bench.python(
          "import socket\ntry: socket.socket(); print(1)\nexcept PermissionError: print(0)")
        #expect(socket.stdout == "0\n")
      }
    }
  }

  /// Bytes that TCP holds on this host, in all network namespaces, unread and unacknowledged ones among them.
  private static func internetBytes() throws -> Int {
    let words =
      try readFile("/proc/net/sockstat").split(separator: "\n").first { $0.hasPrefix("TCP:") }?
      .split(separator: " ") ?? []
    let pages = words.firstIndex(of: "mem").flatMap { Int(words[$0 + 1]) } ?? 0
    return pages * Int(getpagesize())
  }

  @Test(
    "what connections hold is bounded: with a broker that accepts nothing, and with one that reads nothing",
    arguments: ["unaccepted", "unread"])
  func memory(_ kind: String) async throws {
    let pour = """
      import socket, sys, time
      kept, sent = [], 0
      for number in range(100):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        s.settimeout(0.05)
        try:
          s.connect(("index.internal", 443))
          s.setblocking(False)
          while True: sent += s.send(b"x" * 65536)
        except OSError: pass
        kept.append(s)
      print(sent > 1 << 20, flush=True)
      time.sleep(0.5)
      """
    try await withBench { (bench) async throws in
      let exit = Exit()
      let before = try Self.internetBytes()
      let (cell, stage) = try await start(
        bench, pour, exit, limits: Limits(wallMilliseconds: 60_000, memoryBytes: 256 << 20))
      defer { stage.remove() }
      let watch = Task {
        var (most, accepted): (Int, [Descriptor]) = (0, [])
        while !Task.isCancelled {
          if kind == "unread", accepted.count < 64, let connection = exit.accept() { accepted.append(connection) }
          most = max(most, try Self.internetBytes() - before)
          try? await Task.sleep(for: .milliseconds(5))
        }
        return most
      }
      let ran = try await bench.finish(cell)
      watch.cancel()
      let most = try await watch.value
      #expect(ran.stdout == "True\n", "\(ran.outcome) \(ran.stderr)")
      // The group's 16 MiB, and what waits at a listener, or was accepted and is unread: 81 times 256 KiB and as much again.
      #expect(most < 64 << 20, "\(most >> 20) MiB")
      print("TCP held by a cell, \(kind): \(most >> 10) KiB")
    }
  }
}
