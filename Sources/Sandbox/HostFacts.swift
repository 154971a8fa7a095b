import Glibc
import Kernel

/// What the host's own files say, as they were read; `HostObstacles` says what follows.
public struct HostFacts: Sendable, Equatable {
  /// Files that are read; a host need not have each.
  enum File: String, CaseIterable, Sendable {
    case maximumUserNamespaces = "/proc/sys/user/max_user_namespaces"
    case unprivilegedUserNamespaces = "/proc/sys/kernel/unprivileged_userns_clone"
    case appArmorRestriction = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
    /// The profile this process runs under, where there are profiles.
    case securityLabel = "/proc/self/attr/current"
    case status = "/proc/self/status"
    case mountinfo = "/proc/self/mountinfo"
    case groups = "/proc/self/cgroup"
  }

  /// Files that only container engines make.
  static let markers = ["/.dockerenv", "/run/.containerenv"]

  /// One line of mountinfo.
  struct Mount: Sendable, Equatable {
    /// The directory of the filesystem that is the mount's root.
    var root: String
    var point: String
    var kind: String
    var isReadOnly: Bool

    /// Nil for a line that is none of mountinfo's.
    init?(line: Substring) {
      let fields = line.split(separator: " ")
      guard let dash = fields.firstIndex(of: "-"), dash >= 6, fields.count > dash + 3 else { return nil }
      root = String(fields[3])
      point = String(fields[4])
      kind = String(fields[dash + 1])
      // Read-only may be the mount or the filesystem.
      isReadOnly = [fields[5], fields[dash + 3]].contains { $0.split(separator: ",").contains("ro") }
    }
  }

  var user: uid_t
  var files: [File: String]
  /// Which of `markers` is there.
  var containerMarker: String?
  /// The group that Cordon's own would be made in, as a path on this host.
  var basePath: String
  var baseIsWritable: Bool
  /// `cgroup.controllers` of that group, or of the nearest one above it; nil where none can be read.
  var offeredControllers: [String]?
  /// The kernel's answer to the step that failed.
  var refusal: Int32?

  var isRoot: Bool { user == 0 }

  var refusalIsDenial: Bool { refusal == EPERM || refusal == EACCES || refusal == ENOSYS }

  func text(_ file: File) -> String? {
    files[file].map { $0.split(whereSeparator: \.isNewline).first.map(String.init) ?? "" }
  }

  func number(_ file: File) -> Int64? { text(file).flatMap { Int64($0) } }

  /// A field of /proc/self/status.
  func status(_ field: String) -> String? {
    files[.status]?.split(separator: "\n").first { $0.hasPrefix(field + ":") }
      .map { $0.dropFirst(field.count + 1).trimmingPrefix { $0 == "\t" || $0 == " " } }.map(String.init)
  }

  /// CAP_SYS_ADMIN in the effective set.
  var holdsSystemAdministration: Bool {
    let administration: UInt64 = 1 << 21
    return status("CapEff").flatMap { UInt64($0, radix: 16) }.map { $0 & administration != 0 } ?? false
  }

  var mounts: [Mount] {
    (files[.mountinfo] ?? "").split(separator: "\n").compactMap(Mount.init)
  }

  /// The v2 group this process is in.
  var ownGroup: String { Self.ownGroup(files[.groups] ?? "") }

  private static func ownGroup(_ text: String) -> String {
    text.split(separator: "\n").first { $0.hasPrefix("0::") }.map { String($0.dropFirst(3)) } ?? "/"
  }
}

extension HostFacts {
  /// Reads the files of this host; changes nothing.
  static func gather(cgroupBase: String?, refusal: SandboxError) -> HostFacts {
    var files: [File: String] = [:]
    for file in File.allCases { files[file] = read(file.rawValue) }
    let user = geteuid()
    let unified = (files[.mountinfo] ?? "").split(separator: "\n").compactMap(Mount.init).first { $0.kind == "cgroup2" }
    let group = cgroupBase ?? (user == 0 ? "cordon" : ownGroup(files[.groups] ?? ""))
    let components = group.split(separator: "/")
    let root = unified?.point ?? "/sys/fs/cgroup"
    // A group that is not there yet would be made in the nearest one above it.
    let existing = (0...components.count).reversed()
      .map { root + components.prefix($0).map { "/" + $0 }.joined() }
      .first { access($0, F_OK) == 0 }
    return HostFacts(
      user: user, files: files, containerMarker: markers.first { access($0, F_OK) == 0 },
      basePath: root + components.map { "/" + $0 }.joined(),
      baseIsWritable: existing.map { access($0, W_OK) == 0 } ?? false,
      offeredControllers: existing.flatMap { read($0 + "/cgroup.controllers") }
        .map { $0.split { $0 == " " || $0 == "\n" }.map(String.init) },
      refusal: refusal.errno)
  }

  private static func read(_ path: String) -> String? {
    guard let file = try? Descriptor.open(path), let bytes = try? file.readAll(limit: 1 << 20) else { return nil }
    return String(decoding: bytes, as: UTF8.self)
  }
}
