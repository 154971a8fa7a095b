import Foundation

// Theory of operation
//
//   the host's network namespace                      the town's
//   10.x.0.1/24  cordon-townX ======= veth ======= town  10.x.0.10  the index
//   Cordon's worker and its broker,                      10.x.0.20  logs
//   and the test's own clients                           10.x.0.30  the ledger
//                                                        10.x.0.40  the object store
//                                                        10.x.0.50  Vault
//                                                        10.x.0.53  names
//
// The hosts that a job is allowed to reach, or is not. They are real programs of other people where there are such, and
// small stand-ins that verify and record what they are asked where there are not. Each listens at its own address, on the
// port it has elsewhere, which only a network namespace gives away twice; there is no route out of it, so that nothing
// in it can reach anything but the host's end of the link (`TownNamespace`).
//
// A service is started when a test first asks for it, and its function returns when it answers. Its name is then known to
// the town's own name server, and to nobody else: who is to find it is started in the town's `place`, which has a resolver
// configuration and a hosts file of its own and is otherwise the host's. Whatever a service says lies in the town's
// directory, as `NAME.log`, until the town is closed.
//
// All of it ends when this process does, by whatever: see `TownNamespace`.

/// Several hosts on one machine, with services that a job may be allowed to reach.
public actor Town {
  /// A certificate authority that nobody but this town's clients trusts.
  public nonisolated let certificates: TownCertificates
  /// `10.x.0.0/24`, in which all of its addresses lie.
  public nonisolated let block: String
  /// Where its names are known.
  public nonisolated let place: Place

  nonisolated let namespace: TownNamespace
  private var started: [String: Task<any Sendable, any Error>] = [:]
  private var services: [String: Child] = [:]
  private var isClosed = false

  public init() async throws {
    namespace = try await TownNamespace.make()
    do {
      block = "10.\(namespace.number).0.0/24"
      certificates = try await TownCertificates.make(in: namespace.directory.appending(path: "certificates"))
      place = try Place(directory: namespace.directory, nameServer: namespace.address(Street.names))
    } catch {
      await namespace.end()
      throw error
    }
  }

  /// The town's own directory, which every user of the host may read.
  public nonisolated var directory: URL { namespace.directory }

  /// Ends every service and removes what the town is made of. A second time nothing happens.
  public func close() async {
    guard !isClosed else { return }
    isClosed = true
    await namespace.end()
    // Their processes went with the namespace; this takes their ends.
    for service in services.values { while service.isRunning { try? await Task.sleep(for: .milliseconds(2)) } }
  }

  /// Runs a program to its end in the town's place, in the host's network.
  /// - Parameter command: the path of a program and its arguments.
  public nonisolated func run(
    _ command: [String], environment: [String: String] = [:], stdin: [UInt8] = [], limit: Duration = .seconds(30)
  ) async throws -> Tool.Answer {
    let environment = Self.environment.merging(environment) { _, given in given }
    return try await RunningTool(command: place.through + command, environment: environment, stdin: stdin)
      .answer(limit: limit)
  }

  /// Runs a program to its end in the town's own network, as its services are, where names are the host's.
  public nonisolated func runInside(_ command: [String], limit: Duration = .seconds(30)) async throws -> Tool.Answer {
    try await RunningTool(command: namespace.enter(command), environment: Self.environment).answer(limit: limit)
  }

  /// The last byte of the addresses.
  enum Street {
    static let (index, logs, ledger, store, vault, names) = (10, 20, 30, 40, 50, 53)
    static let all = [index, logs, ledger, store, vault, names]
  }

  /// What programs find, whatever the test's own environment is.
  static let environment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"]

  // MARK: What the services are made with

  /// What `start` makes, which is called once however many ask.
  func once<Service: Sendable>(
    _ name: String, _ start: @escaping @Sendable () async throws -> Service
  ) async throws -> Service {
    let task = started[name] ?? Task { try await start() }
    started[name] = task
    guard let service = try await task.value as? Service else { throw Problem("the town has another \(name)") }
    return service
  }

  /// Starts a service in the town and returns when it answers.
  func serve(_ name: String, _ command: [String], until answers: () async -> Bool) async throws {
    let log = directory.appending(path: "\(name).log").path
    let words = namespace.enter(command)
    let service = try Child(
      words[0], Array(words.dropFirst()), environment: Self.environment, stdin: "/dev/null", stdout: log, stderr: log)
    services[name] = service
    let end = ContinuousClock.now + Duration.seconds(30).patiently
    while await !answers() {
      guard service.isRunning, .now < end else {
        let said = (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
        throw Problem("the town's \(name) does not serve: \(said)")
      }
      try await Task.sleep(for: .milliseconds(10))
    }
  }

  /// A script of `TownServices`, as a command.
  static func script(_ name: String, _ arguments: [String], interpreter: String = "/usr/bin/python3") -> [String] {
    // Nobody's settings, and no compiled copies in the sources.
    [interpreter, "-EsB", repository.appending(path: "Sources/TestKit/TownServices/\(name).py").path] + arguments
  }

  /// The interpreter with the packages of `Tests/Journeys/reference.txt`.
  public static var interpreter: String {
    get throws {
      let path = repository.appending(path: ".build/reference/Journeys/bin/python3").path
      guard FileManager.default.isExecutableFile(atPath: path) else {
        throw Problem("no \(path) (fix: ops/test Journeys)")
      }
      return path
    }
  }

  /// Runs a program to its end in the host's place and network; anything but success is a `Problem`.
  @discardableResult
  static func perform(_ command: [String]) async throws -> [UInt8] {
    let answer = try await RunningTool(command: command, environment: environment).answer(limit: .seconds(30))
    guard answer.status == 0 else {
      throw Problem("\(command.joined(separator: " ")) ended with \(answer.status): \(answer.stderr)\(answer.text)")
    }
    return answer.stdout
  }

  // MARK: Places

  /// The host, except that the town's names are known in it, and no others.
  public struct Place: Sendable {
    /// What stands before a command. It becomes that command: the process is the same, so a signal reaches it.
    public let through: [String]

    init(directory: URL, nameServer: String) throws {
      let (hosts, resolver) = (directory.appending(path: "hosts"), directory.appending(path: "resolv.conf"))
      try "127.0.0.1 localhost\n::1 localhost\n".write(to: hosts, atomically: true, encoding: .utf8)
      // One try of one second: a server that is silent on purpose must not cost a test ten.
      try "nameserver \(nameServer)\noptions timeout:1 attempts:1\n"
        .write(to: resolver, atomically: true, encoding: .utf8)
      through = [
        "/usr/bin/unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c",
        """
        mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@"
        """,
        "place", hosts.path, resolver.path,
      ]
    }
  }
}
