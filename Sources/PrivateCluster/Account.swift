import Glibc

/// The operating-system user the server runs as. PostgreSQL refuses to run as root, so root uses the user that
/// Debian's packages make.
public struct Account: Sendable {
  static let serverUser = "postgres"
  private static let setpriv = "/usr/bin/setpriv"

  public let uid: uid_t
  public let gid: gid_t
  public let name: String
  /// What stands before a command to run it as this user; empty for ourselves.
  public let prefix: [String]

  public static func resolve() throws(ClusterError) -> Account {
    guard geteuid() == 0 else {
      return Account(uid: geteuid(), gid: getegid(), name: "uid \(geteuid())", prefix: [])
    }
    guard access(setpriv, X_OK) == 0 else {
      throw ClusterError("account", "\(setpriv) is missing", fix: "install util-linux")
    }
    guard let (uid, gid) = lookUp(serverUser) else {
      throw ClusterError(
        "account", "root cannot run PostgreSQL and there is no user \(serverUser)",
        fix: "apt-get install postgresql, or adduser --system --group \(serverUser)")
    }
    return Account(
      uid: uid, gid: gid, name: "user \(serverUser)",
      prefix: [setpriv, "--reuid", serverUser, "--regid", serverUser, "--init-groups", "--"])
  }

  private static func lookUp(_ name: String) -> (uid_t, gid_t)? {
    var entry = passwd()
    var found: UnsafeMutablePointer<passwd>?
    var buffer = [CChar](repeating: 0, count: 1 << 14)
    guard getpwnam_r(name, &entry, &buffer, buffer.count, &found) == 0, found != nil else { return nil }
    return (entry.pw_uid, entry.pw_gid)
  }
}
