import Foundation
import Glibc
import TestKit

/// A directory of one case on the host: a file that no job may reach, and room for controls.
struct Place: Sendable {
  let path: String
  /// A file with `secret` in it.
  var canary: String { path + "/canary/secret.txt" }
  let secret: String
  let marker = Marker()
  /// On the canary, from the beginning.
  let watch: OpenWatch

  /// Whom an ordinary control runs as: nobody's uid on Debian.
  static let ordinaryUser: uid_t = 64_243

  init() throws {
    path = "/var/tmp/cordon-attack-\(UUID().uuidString)"
    secret = "secret-\(UUID().uuidString)"
    try FileManager.default.createDirectory(
      atPath: path + "/canary", withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
    try Data(secret.utf8).write(to: URL(fileURLWithPath: path + "/canary/secret.txt"))
    chmod(path + "/canary/secret.txt", 0o600)
    // Its owner is the worker's: what is not opened must not be for want of the right to.
    chown(path + "/canary/secret.txt", WorkerUser.id, WorkerUser.id)
    watch = try OpenWatch(path + "/canary/secret.txt")
  }

  func remove() { try? FileManager.default.removeItem(atPath: path) }

  /// A directory beneath it.
  func directory(_ name: String, mode: Int = 0o777) throws -> String {
    let made = path + "/" + name
    try FileManager.default.createDirectory(
      atPath: made, withIntermediateDirectories: true, attributes: [.posixPermissions: mode])
    // The mode above is less the umask.
    chmod(made, mode_t(mode))
    return made
  }
}

/// Counts opens of one file on the host, whoever makes them.
final class OpenWatch: @unchecked Sendable {
  private let descriptor: Int32

  init(_ path: String) throws {
    descriptor = inotify_init1(Int32(IN_NONBLOCK | IN_CLOEXEC))
    guard descriptor >= 0, inotify_add_watch(descriptor, path, UInt32(IN_OPEN)) >= 0 else {
      throw Problem("inotify on \(path): errno \(errno)")
    }
  }

  deinit { close(descriptor) }

  var opens: Int {
    var buffer = [UInt8](repeating: 0, count: 65_536)
    var count = 0
    while true {
      let bytes = read(descriptor, &buffer, buffer.count)
      // An event of a watched file has no name, so all have one size.
      guard bytes > 0 else { return count }
      count += bytes / MemoryLayout<inotify_event>.size
    }
  }
}

func readText(_ path: String) throws -> String {
  guard let data = FileManager.default.contents(atPath: path) else { throw Problem("cannot read \(path)") }
  return String(decoding: data, as: UTF8.self)
}

func names(in directory: String) -> [String] {
  ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []).sorted()
}
