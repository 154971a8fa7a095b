import Foundation
import Glibc
import Synchronization

/// Servers outside of every cell, on addresses of this host's loopback interface, and names that lead to them for whoever is started
/// `through` it. They say what they were asked, and so does the name server that is asked for every other name.
public final class Upstream: Sendable {
  /// What all of their addresses begin with; `127.0.79.1` is the private one of network `127.0.78`.
  public let network: String
  /// The secret of the credential `index`.
  public let token: String
  private let directory: URL
  private let server: Child

  /// `GET /slow` is an answer that never ends; whoever gets one counts in `open`. On port 7 of an address of its own everything
  /// comes back.
  private static let program = #"""
    import http.server, os, socket, socketserver, ssl, sys, threading, time
    place, network, outside, lock, open_now = *sys.argv[1:4], threading.Lock(), 0
    def note(line):
        with lock, open(place + "/seen", "a") as f: f.write(line + "\n")
    def count(change):
        global open_now
        with lock:
            open_now += change
            with open(place + "/open.new", "w") as f: f.write(str(open_now))
        os.replace(place + "/open.new", place + "/open")
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def do_GET(self):
            line = f"{self.command} {self.path} {self.headers.get('Authorization')} {self.headers.get('Cookie')}"
            note(line)
            if self.path == "/slow": return self.slow()
            body = (line + "\n").encode()
            self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
            self.wfile.write(body)
        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET
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
    for address, port, name in [(network + ".1", 443, "index.internal"), (network + ".1", 8443, "index.internal"),
                                (network + ".2", 443, "other.internal"), (network + ".3", 443, "seen.internal"),
                                (network + ".5", 443, "fading.internal"), (network + ".2", 8443, "other.internal"),
                                (outside + ".1", 443, "private.internal")]: serve(address, port, name)
    echo = socketserver.ThreadingTCPServer((network + ".4", 7), Echo)
    threading.Thread(target=echo.serve_forever, daemon=True).start()
    def names():
        asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        asked.bind((network + ".53", 53))
        while True:
            query, client = asked.recvfrom(4096)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode("latin1"))
                at += 1 + query[at]
            note("name " + ".".join(labels).lower())
            # No such name (RFC 1035, 4.1.1): an answer, no error but 3, and the question as it was.
            asked.sendto(query[:2] + bytes([0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]) + query[12:at + 5], client)
    threading.Thread(target=names, daemon=True).start()
    count(0)
    threading.Event().wait()
    """#

  private static let hosts = """
    127.0.0.1 localhost
    NETWORK.1 index.internal
    NETWORK.2 other.internal
    NETWORK.3 seen.internal
    NETWORK.4 raw.internal
    NETWORK.5 fading.internal
    OUTSIDE.1 private.internal
    169.254.169.254 metadata.internal

    """

  private static let credentials = """
    index:
      tenants: [local]
      queues: [default, ordinary]
      source: {file: PLACE/token}
      inject: {bearer: true}
    fading:
      tenants: [local]
      queues: [default, ordinary]
      source: {file: PLACE/fading}
      inject: {bearer: true}
    """

  /// Two that live at once have addresses of their own, also in two runs on one host.
  /// - Parameter owner: of the files of credentials: the worker's user, since nobody else may read them.
  public init(token: String = "token-1234567890", owner: uid_t = 0) throws {
    let net = try Self.freeNetwork()
    (network, self.token) = ("127.0.\(net)", token)
    let outside = "127.0.\(net + 1)"
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
    try write("hosts", Self.hosts.replacing("NETWORK", with: network).replacing("OUTSIDE", with: outside))
    try write("resolv.conf", "nameserver \(network).53\n")
    try write("token", token + "\n", mode: 0o600)
    try write("fading", "fading-\(UUID().uuidString)\n", mode: 0o600)
    for name in ["token", "fading"] where chown(path + "/" + name, owner, owner) != 0 {
      throw Problem("cannot give \(name) to \(owner)")
    }
    try write("credentials.yaml", Self.credentials.replacing("PLACE", with: path))
    try write(
      "certificates.sh",
      """
      cd "$1" && curve="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
      openssl req -x509 $curve -keyout ca.key -out ca.pem -days 2 -subj /CN=upstream 2>/dev/null
      for name in index other seen fading private; do
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
    server = try start(["/usr/bin/python3", "-I", path + "/upstream.py", path, network, outside])
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

  /// A third part of addresses that nobody serves; the next one is the private address's.
  private static func freeNetwork() throws -> Int {
    for _ in 0..<100 {
      let net = Int.random(in: 10...126) * 2
      if isFree(net, 1), isFree(net, 2), isFree(net + 1, 1) { return net }
    }
    throw Problem("no free addresses in 127.0.0.0/16")
  }

  private static func isFree(_ net: Int, _ host: Int) -> Bool {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { Glibc.close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(443).bigEndian
    address.sin_addr.s_addr = UInt32(127 << 24 | net << 8 | host).bigEndian
    return withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
  }

  public func path(_ name: String) -> String { directory.appending(path: name).path }

  /// Gives a command the names of these servers.
  public var through: [String] {
    [
      "/usr/bin/unshare", "-m", "--propagation", "private", "/bin/sh", "-c",
      "mount --bind \(path("hosts")) /etc/hosts && mount --bind \(path("resolv.conf")) /etc/resolv.conf && exec \"$@\"",
      "sh",
    ]
  }

  /// What they were asked, a line each: method, path, Authorization and Cookie; the word `name` and the name.
  public func seen() -> String { (try? String(contentsOfFile: path("seen"), encoding: .utf8)) ?? "" }

  /// Answers that are under way.
  public func open() -> Int { (try? String(contentsOfFile: path("open"), encoding: .utf8)).flatMap { Int($0) } ?? 0 }
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
