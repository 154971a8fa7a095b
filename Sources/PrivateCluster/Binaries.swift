import Glibc

/// The directory of one PostgreSQL installation's programs.
public struct Binaries: Sendable {
  /// Where Debian keeps one directory a major version.
  private static let versionsRoot = "/usr/lib/postgresql"
  private static let needed = ["initdb", "pg_ctl", "postgres"]

  public let directory: String

  var initdb: String { directory + "/initdb" }
  var pgCtl: String { directory + "/pg_ctl" }

  /// The newest installation, or the one of a given major version where a data directory already has one.
  public static func find(version: String? = nil) throws(ClusterError) -> Binaries {
    if let version {
      let directory = "\(versionsRoot)/\(version)/bin"
      if isComplete(directory) { return Binaries(directory: directory) }
    } else {
      let newest = entries(of: versionsRoot).compactMap { Int($0) }.sorted(by: >)
      if let found = newest.map({ "\(versionsRoot)/\($0)/bin" }).first(where: isComplete) {
        return Binaries(directory: found)
      }
    }
    let path = getenv("PATH").map { String(cString: $0) } ?? ""
    if let found = path.split(separator: ":").map({ String($0) }).first(where: { $0.hasPrefix("/") && isComplete($0) })
    {
      return Binaries(directory: found)
    }
    let wanted = version.map { " \($0)" } ?? ""
    throw ClusterError(
      "find", "PostgreSQL\(wanted) is not installed: no initdb, pg_ctl and postgres beneath \(versionsRoot) or in PATH",
      fix: "apt-get install postgresql\(version.map { "-\($0)" } ?? "")")
  }

  private static func isComplete(_ directory: String) -> Bool {
    needed.allSatisfy { access("\(directory)/\($0)", X_OK) == 0 }
  }
}

/// The names in a directory; empty when it cannot be read.
func entries(of directory: String) -> [String] {
  guard let stream = opendir(directory) else { return [] }
  defer { closedir(stream) }
  var names: [String] = []
  while let entry = readdir(stream) {
    let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
      String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    if name != ".", name != ".." { names.append(name) }
  }
  return names
}
