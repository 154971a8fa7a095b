import Foundation
import Postgres

/// An account that is neither root nor anybody's, with a cgroup of its own and a copy of the programs it can read.
public final class OrdinaryUser: Sendable {
  /// Nobody's uid on Debian; the range below 65536 that adduser gives out starts at 1000.
  public static let id: uid_t = 64_242

  public let place = URL(fileURLWithPath: "/var/tmp/cordon-ordinary-\(UUID().uuidString)")
  public let groups: DelegatedGroups
  /// A directory of its own.
  public var data: String { place.path + "/data" }

  public init() throws {
    // The build directory may lie where only root can look.
    try FileManager.default.createDirectory(
      at: place, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
    // By another process: a file that is open for writing here is so in whatever another thread starts meanwhile, and
    // cannot be executed until that is over.
    let programs = try ["cordon", "cordon-warden", "cordon-cell"].map(buildProduct(named:))
    let copy = try Child(
      "/usr/bin/cp", programs + [place.path], environment: [:], stdin: "/dev/null", stdout: "/dev/null",
      stderr: "/dev/null")
    while copy.isRunning { usleep(2_000) }
    guard copy.terminationStatus == 0 else { throw Problem("cannot copy \(programs) to \(place.path)") }
    try FileManager.default.createDirectory(at: place.appending(path: "data"), withIntermediateDirectories: false)
    chown(place.path + "/data", Self.id, Self.id)
    groups = try DelegatedGroups(owner: Self.id)
  }

  public func remove() {
    groups.remove()
    try? FileManager.default.removeItem(at: place)
  }

  /// `cordon` as this user.
  public func enter(_ arguments: [String]) -> [String] { through() + ["cordon"] + arguments }

  /// What stands before a command, whose program is the copy of that name. The process enters the delegated group
  /// while it may, then becomes the user, as a service manager does it. A group that hands its controllers down has no
  /// room for a process; whoever made it do so has made a leaf beneath it for its own.
  ///
  /// - Parameter inheritable: capabilities to leave inheritable, as setpriv(1) takes them.
  public func through(inheritable: String = "-all") -> [String] {
    [
      "/usr/bin/bash", "-c",
      """
      group=$1 place=$2 program=$2/${3##*/}; shift 3
      [ ! -d "$group/supervisor" ] || group=$group/supervisor
      echo $$ > "$group/cgroup.procs" && exec setpriv --inh-caps "\(inheritable)" --reuid \(Self.id) \
        --regid \(Self.id) --clear-groups "$program" "$@"
      """, "bash", groups.unified, place.path,
    ]
  }
}

/// Groups of a user's own in every hierarchy Cordon uses, as an administrator delegates them.
public struct DelegatedGroups: Sendable {
  public let name = "cordon-ordinary-\(getpid())-\(UInt32.random(in: 100_000...999_999))"
  /// The one in the v2 hierarchy.
  public let unified: String
  private let paths: [String]

  public init(owner: uid_t) throws {
    let hybrid = "/sys/fs/cgroup/unified"
    let roots =
      FileManager.default.fileExists(atPath: hybrid)
      ? [hybrid] + ["memory", "pids", "cpu"].map { "/sys/fs/cgroup/" + $0 } : ["/sys/fs/cgroup"]
    let name = name
    paths = roots.map { "\($0)/\(name)" }
    unified = paths[0]
    for path in paths {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
      chown(path, owner, owner)
      for file in try FileManager.default.contentsOfDirectory(atPath: path) { chown("\(path)/\(file)", owner, owner) }
    }
  }

  /// Children are gone or empty by now; what is left would be a failure of the test that made it.
  public func remove() {
    for path in paths {
      for child in (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [] { rmdir("\(path)/\(child)") }
      rmdir(path)
    }
  }
}

extension House {
  /// PostgreSQL's socket is for its own user and root; a worker of another user reaches it after this.
  public nonisolated func openSocket() {
    let files = FileManager.default.enumerator(at: directory, includingPropertiesForKeys: nil)
    for case let url as URL in files ?? .init() where url.lastPathComponent.hasPrefix(".s.PGSQL.") {
      chmod(url.path, 0o777)
      var parent = url.deletingLastPathComponent()
      while parent.path.hasPrefix(directory.path) {
        chmod(parent.path, 0o755)
        parent.deleteLastPathComponent()
      }
    }
  }

  public nonisolated func addQueue(_ name: String) async throws {
    let pool = Pool(ConnectionSettings(superuser), maximum: 1)
    let statement = Statement(name: "add_queue", sql: "select cordon.add_queue($1) is null")
    _ = try await pool.query(statement, [Parameter(name)])
    await pool.close()
  }

  /// Puts the policy in force that differs from the one before by waiving a control. Returns its digest.
  public nonisolated func waive(_ control: String) async throws -> String {
    try await amendPolicy("\"waivers\": [\"\(control)\"]")
  }

  /// Puts the policy in force that has one more member. Returns its digest.
  @discardableResult
  public nonisolated func amendPolicy(_ member: String) async throws -> String {
    let policy = try await tool.run(["policy", "show"])
    guard policy.stderr.contains("policy sha256:") else { throw Problem("no policy: \(policy.stderr)") }
    let amended = policy.text.replacing("\"version\" : 1", with: "\"version\": 1, \(member)")
    let set = try await tool.run(["policy", "set", "-"], stdin: Array(amended.utf8))
    guard set.status == 0, set.text.hasPrefix("sha256:") else { throw Problem("policy set: \(set.stderr)") }
    return set.text.trimmingCharacters(in: .whitespacesAndNewlines)
  }
}
