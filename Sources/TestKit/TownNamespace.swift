import Foundation

// Theory of operation
//
// A shell, the guardian, starts the keeper and waits for it. The keeper is the first process of a process namespace that
// has a network and an IPC namespace with it, and reads from a pipe whose other end is ours alone. Services are started
// into these namespaces by nsenter. When we close that end, or end in whatever way, the keeper reads the end of the pipe
// and goes; the kernel then kills all that is in its namespace, servers that made themselves daemons included, and takes
// the link and the shared memory away with the namespaces. The guardian removes the directory. So there is nothing that
// has to be found again by name, and two towns never meet, except in the number of their network, which the name of the
// host's end of the link reserves.

/// Where a town's services run: a network without a way out, processes that end together, and a directory.
struct TownNamespace: Sendable {
  /// Networks are 10.100.0.0/24 to 10.199.0.0/24: within RFC 1918, and away from both ends of 10.0.0.0/8, where most are.
  private static let numbers = 100..<200

  let directory: URL
  /// The second byte of its addresses.
  let number: Int
  private let keeper: pid_t
  private let guardian: Child
  private let lifeline: Int32

  private static let script = """
    trap '' HUP INT TERM
    unshare --net --ipc --pid --fork --kill-child -- /bin/sh -c 'read -r line' <"$1/lifeline" &
    echo $! >"$1/keeper.new" && mv "$1/keeper.new" "$1/keeper"
    wait
    rm -rf -- "$1"
    """

  static func make() async throws -> TownNamespace {
    // PostgreSQL runs as its own user and has to reach its part.
    let directory = URL(fileURLWithPath: "/var/tmp/cordon-town-\(UUID().uuidString)")
    try FileManager.default.createDirectory(
      at: directory, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o755])
    let pipe = directory.path + "/lifeline"
    // For both, so that neither end waits for the other to be opened.
    guard mkfifo(pipe, 0o600) == 0, case let lifeline = open(pipe, O_RDWR | O_CLOEXEC), lifeline >= 0 else {
      throw Problem("no pipe \(pipe): \(String(cString: strerror(errno)))")
    }
    var guardian: Child?
    do {
      let started = try Child(
        "/bin/sh", ["-c", script, "cordon-town", directory.path], environment: Town.environment, stdin: "/dev/null",
        stdout: "/dev/null", stderr: directory.path + "/keeper.log")
      guardian = started
      var keeper: pid_t?
      try await eventually("the town's namespaces are there") {
        keeper = (try? String(contentsOf: directory.appending(path: "keeper"), encoding: .utf8)).flatMap {
          pid_t($0.trimmingCharacters(in: .whitespacesAndNewlines))
        }
        return keeper.map(isReady) ?? !started.isRunning
      }
      guard let keeper, started.isRunning else { throw Problem("no namespaces for a town: unshare ended") }
      let number = try await link(keeper)
      let namespace = TownNamespace(
        directory: directory, number: number, keeper: keeper, guardian: started, lifeline: lifeline)
      try await namespace.addAddresses()
      return namespace
    } catch {
      close(lifeline)
      // The guardian removes the directory, once it got that far.
      if guardian == nil { try? FileManager.default.removeItem(at: directory) }
      throw error
    }
  }

  /// The process namespace is the last that comes into being, and has no name before its first process.
  private static func isReady(_ keeper: pid_t) -> Bool {
    let ours = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/pid_for_children")
    let its = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(keeper)/ns/pid_for_children")
    return its != nil && its != ours
  }

  /// Makes the link with the first number that neither a town nor a route of this host has.
  private static func link(_ keeper: pid_t) async throws -> Int {
    var problem: any Error = Problem("all networks of towns are in use")
    for number in numbers.shuffled() {
      let routes = try await Town.perform(["/usr/sbin/ip", "route", "show", "root", "10.\(number).0.0/16"])
      guard routes.isEmpty else { continue }
      let name = interface(number)
      do {
        try await Town.perform(
          ["/usr/sbin/ip", "link", "add", name, "type", "veth", "peer", "name", "town", "netns", "\(keeper)"])
        return number
      } catch {
        problem = error
        // Another town was faster; what else there may be is no better with another number.
        guard FileManager.default.fileExists(atPath: "/sys/class/net/\(name)") else { break }
      }
    }
    throw problem
  }

  private func addAddresses() async throws {
    let here = Self.interface(number)
    try await Town.perform(["/usr/sbin/ip", "address", "add", "10.\(number).0.1/24", "dev", here])
    try await Town.perform(["/usr/sbin/ip", "link", "set", here, "up"])
    let inside = directory.appending(path: "interfaces")
    let addresses = Town.Street.all.map { "address add \(address($0))/24 dev town\n" }.joined()
    try "\(addresses)link set lo up\nlink set town up\n".write(to: inside, atomically: true, encoding: .utf8)
    try await Town.perform(enter(["/usr/sbin/ip", "-batch", inside.path]))
  }

  /// At most 15 characters long, which is what the kernel takes.
  private static func interface(_ number: Int) -> String { "cordon-town\(number)" }

  func address(_ house: Int) -> String { "10.\(number).0.\(house)" }

  /// The command that executes another in here; it waits for it and ends as it does.
  func enter(_ command: [String]) -> [String] {
    let place = "/proc/\(keeper)/ns"
    return [
      "/usr/bin/nsenter", "--net=\(place)/net", "--ipc=\(place)/ipc", "--pid=\(place)/pid_for_children", "--",
    ] + command
  }

  /// Whether something accepts connections there. A link to the same machine answers at once or never.
  func accepts(_ house: Int, _ port: UInt16) -> Bool {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var target = sockaddr_in()
    target.sin_family = sa_family_t(AF_INET)
    target.sin_port = port.bigEndian
    inet_pton(AF_INET, address(house), &target.sin_addr)
    return withUnsafePointer(to: target) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
  }

  /// Returns when processes, link and directory are gone. Once only.
  func end() async {
    // The kernel would take it away too, a moment after the last process.
    _ = try? await Town.perform(["/usr/sbin/ip", "link", "delete", Self.interface(number)])
    close(lifeline)
    while guardian.isRunning { try? await Task.sleep(for: .milliseconds(2)) }
  }
}
