import CLinux
import Glibc

/// A set of namespaces by kind.
public struct Namespaces: OptionSet, Sendable {
  public let rawValue: UInt64
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  public static let mount = Namespaces(rawValue: UInt64(CORDON_NEWNS))
  public static let cgroup = Namespaces(rawValue: UInt64(CORDON_NEWCGROUP))
  public static let hostName = Namespaces(rawValue: UInt64(CORDON_NEWUTS))
  public static let ipc = Namespaces(rawValue: UInt64(CORDON_NEWIPC))
  public static let user = Namespaces(rawValue: UInt64(CORDON_NEWUSER))
  public static let process = Namespaces(rawValue: UInt64(CORDON_NEWPID))
  public static let network = Namespaces(rawValue: UInt64(CORDON_NEWNET))

  /// What every cell has of its own.
  public static let cell: Namespaces = [.mount, .process, .ipc, .hostName, .network, .cgroup]

  /// What a cell's init begins by being cloned: all but the cgroup namespace, which has its root where its maker is, and
  /// so is made by the process that is in the cell's groups.
  public static let begun: Namespaces = cell.subtracting(.cgroup)
  /// What the job's process joins of them; the pid namespace it is born in.
  public static let joined: Namespaces = begun.subtracting(.process)

  static let known: [(Namespaces, String)] = [
    (.mount, "mnt"), (.process, "pid"), (.ipc, "ipc"), (.hostName, "uts"), (.network, "net"), (.cgroup, "cgroup"),
    (.user, "user"),
  ]

  /// Names under /proc/PID/ns.
  public var names: [String] { Namespaces.known.filter { contains($0.0) }.map(\.1) }

  var flags: UInt64 { rawValue }

  /// Moves the calling process. Only while it has one thread.
  public func unshare() throws(SystemError) {
    try SystemError.check(cordon_unshare(Int32(truncatingIfNeeded: rawValue)), "unshare \(names)")
  }

  /// Moves the calling process into these namespaces of the process behind a pidfd, or into the one a namespace file
  /// names; a pid namespace holds for children made from then on. Only while the caller has one thread.
  public func enter(_ target: Descriptor) throws(SystemError) {
    try SystemError.check(cordon_setns(target.raw, Int32(truncatingIfNeeded: rawValue)), "setns \(names)")
  }
}

/// Which namespaces one process is in: the kernel's identities such as `net:[4026531840]`, by name.
public struct NamespaceIdentities: Equatable, Sendable {
  public let identities: [String: String]

  public init(_ identities: [String: String]) { self.identities = identities }

  /// - Parameters:
  ///   - process: a pid as text, or `self`.
  ///   - proc: the root of a proc filesystem that shows the process.
  public static func read(_ process: String, proc: Descriptor) throws(SystemError) -> NamespaceIdentities {
    var identities: [String: String] = [:]
    for (_, name) in Namespaces.known {
      var buffer = [CChar](repeating: 0, count: 64)
      let path = "\(process)/ns/\(name)"
      let count = try SystemError.check(readlinkat(proc.raw, path, &buffer, buffer.count), "readlink /proc/\(path)")
      identities[name] = String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    return NamespaceIdentities(identities)
  }

  /// Of `namespaces`, the names in which the two differ.
  public func differing(from other: NamespaceIdentities, among namespaces: Namespaces) -> [String] {
    namespaces.names.filter { identities[$0] != nil && identities[$0] != other.identities[$0] }
  }
}
