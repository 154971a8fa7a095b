import Foundation
import Postgres
import Synchronization
import TestKit

/// Servers outside of every cell, on addresses of this host's loopback interface, and names that lead to them for whoever is started
/// `through` it. They say what they were asked.
final class Upstream: Sendable {
  private let directory: URL
  private let server: Child

  /// `GET /slow` is an answer that never ends; whoever gets one counts in `open`. On port 7 of an address of its own everything
  /// comes back.
  private static let program = #"""
    import http.server, socketserver, ssl, sys, threading, time
    place, lock, open_now = sys.argv[1], threading.Lock(), 0
    def note(line):
        with lock, open(place + "/seen", "a") as f: f.write(line + "\n")
    def count(change):
        global open_now
        with lock:
            open_now += change
            with open(place + "/open.new", "w") as f: f.write(str(open_now))
        import os; os.replace(place + "/open.new", place + "/open")
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def do_GET(self):
            line = f"{self.command} {self.path} {self.headers.get('Authorization')} {self.headers.get('Cookie')}"
            note(line)
            if self.path == "/slow": return self.slow()
            body = (line + "\n").encode()
            self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
            self.wfile.write(body)
        do_POST = do_GET
        def slow(self):
            self.send_response(200); self.send_header("Content-Length", str(1 << 40)); self.end_headers()
            count(1)
            try:
                while True:
                    self.wfile.write(b"x" * 100); time.sleep(0.02)
            except OSError: pass
            finally: count(-1)
        def log_message(self, *_): pass
    class Echo(socketserver.BaseRequestHandler):
        def handle(self):
            while data := self.request.recv(4096): self.request.sendall(data)
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer.daemon_threads = True
    def serve(address, port, name):
        server = http.server.ThreadingHTTPServer((address, port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{place}/{name}.pem", f"{place}/{name}.key")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    for address, port, name in [("127.0.77.1", 443, "index.internal"), ("127.0.77.1", 8443, "index.internal"),
                                ("127.0.77.2", 443, "other.internal"), ("127.0.77.3", 443, "seen.internal"),
                                ("127.0.78.1", 443, "private.internal")]: serve(address, port, name)
    echo = socketserver.ThreadingTCPServer(("127.0.77.4", 7), Echo)
    threading.Thread(target=echo.serve_forever, daemon=True).start()
    count(0)
    threading.Event().wait()
    """#

  private static let hosts = """
    127.0.0.1 localhost
    127.0.77.1 index.internal
    127.0.77.2 other.internal
    127.0.77.3 seen.internal
    127.0.77.4 raw.internal
    127.0.78.1 private.internal

    """

  private static let credentials = """
    index:
      tenants: [local]
      queues: [default]
      source: {file: PLACE/token}
      inject: {bearer: true}
    """

  init() throws {
    directory = URL(fileURLWithPath: "/var/tmp/cordon-upstream-\(UUID().uuidString)")
    let path = directory.path
    try FileManager.default.createDirectory(
      at: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
    func write(_ name: String, _ text: String, mode: Int = 0o644) throws {
      guard
        FileManager.default.createFile(
          atPath: "\(path)/\(name)", contents: Data(text.utf8), attributes: [.posixPermissions: mode])
      else { throw Problem("cannot write \(name)") }
    }
    try write("upstream.py", Self.program)
    try write("hosts", Self.hosts)
    try write("token", "token-1234567890\n", mode: 0o600)
    try write("credentials.yaml", Self.credentials.replacing("PLACE", with: path))
    try write(
      "certificates.sh",
      """
      cd "$1" && curve="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
      openssl req -x509 $curve -keyout ca.key -out ca.pem -days 2 -subj /CN=upstream 2>/dev/null
      for name in index other seen private; do
        openssl req $curve -keyout $name.internal.key -out $name.csr -subj /CN=$name.internal 2>/dev/null
        echo "subjectAltName=DNS:$name.internal" > $name.ext
        openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $name.internal.pem -days 2 \
          -extfile $name.ext 2>/dev/null
      done
      """)
    func start(_ words: [String]) throws -> Child {
      try Child(
        words[0], Array(words.dropFirst()), environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"], stdin: "/dev/null",
        stdout: path + "/log", stderr: path + "/log")
    }
    let certificates = try start(["/bin/bash", path + "/certificates.sh", path])
    while certificates.isRunning { usleep(5_000) }
    server = try start(["/usr/bin/python3", "-I", path + "/upstream.py", path])
    let end = ContinuousClock.now + .seconds(20)
    while !FileManager.default.fileExists(atPath: path + "/open") {
      guard server.isRunning, ContinuousClock.now < end else {
        throw Problem("no upstream: \((try? String(contentsOfFile: path + "/log", encoding: .utf8)) ?? "")")
      }
      usleep(10_000)
    }
    let (pid, place) = (server.processIdentifier, directory)
    atexitRemoving(pid, place)
  }

  func path(_ name: String) -> String { directory.appending(path: name).path }

  /// Gives a command the names of these servers.
  var through: [String] {
    [
      "/usr/bin/unshare", "-m", "--propagation", "private", "/bin/sh", "-c",
      "mount --bind \(path("hosts")) /etc/hosts && exec \"$@\"", "sh",
    ]
  }

  /// What they were asked: method, path, Authorization and Cookie, a line each.
  func seen() -> String { (try? String(contentsOfFile: path("seen"), encoding: .utf8)) ?? "" }

  /// Answers that are under way.
  func open() -> Int { (try? String(contentsOfFile: path("open"), encoding: .utf8)).flatMap { Int($0) } ?? 0 }
}

/// Ends what a test process has left; one of them serves all tests.
private let leftovers = Mutex<[(pid_t, URL)]>([])

private func atexitRemoving(_ pid: pid_t, _ directory: URL) {
  leftovers.withLock { $0.append((pid, directory)) }
  atexit {
    for (pid, directory) in leftovers.withLock({ $0 }) {
      kill(pid, SIGKILL)
      try? FileManager.default.removeItem(at: directory)
    }
  }
}

/// A database's superuser.
struct Connecting {
  private let pool: Pool

  init(_ url: String) async throws { pool = Pool(ConnectionSettings(url), maximum: 1) }

  func run(_ script: String) async throws {
    for text in script.split(separator: ";") {
      _ = try await pool.query(Statement(name: "as superuser \(text.hashValue)", sql: String(text)), [])
    }
  }

  func column(_ sql: String) async throws -> [Int32] {
    try await pool.query(Statement(name: "look", sql: sql), []).map { try $0.get(at: 0, as: Int32.self) }
  }
}

/// A server that answers nobody any more: it and every session of a house's worker stand still.
final class Silence: Sendable {
  private let house: House
  private let stopped = Stopped()

  init(of house: House) throws { self.house = house }

  func begin() async throws {
    let boss = try await Connecting(house.superuser)
    let sessions = try await boss.column("SELECT pid FROM pg_stat_activity WHERE usename = 'cordon_local_worker'")
    guard let first = sessions.first,
      let status = try? String(contentsOfFile: "/proc/\(first)/status", encoding: .utf8),
      let line = status.split(separator: "\n").first(where: { $0.hasPrefix("PPid:") }),
      let server = Int32(line.dropFirst(5).trimmingCharacters(in: .whitespaces))
    else { throw Problem("no session of the worker") }
    // The server first: a worker whose sessions hang opens another one.
    for process in [server] + sessions { kill(process, SIGSTOP) }
    stopped.add([server] + sessions)
  }

  func end() { stopped.goOn() }
}

private final class Stopped: @unchecked Sendable {
  private let lock = NSLock()
  private var processes: [Int32] = []

  func add(_ more: [Int32]) { lock.withLock { processes += more } }

  func goOn() {
    lock.withLock {
      for process in processes { kill(process, SIGCONT) }
      processes = []
    }
  }
}
