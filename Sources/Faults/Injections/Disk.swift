import Foundation
import Postgres
import PrivateCluster

/// A filesystem of its own beneath PostgreSQL, small enough to fill.
struct Disk: Sendable {
  private static let bytes: off_t = 1 << 30
  let mountPoint: String
  private let log: String

  static func mount(at mountPoint: String, log: String) async throws -> Disk {
    let image = mountPoint + ".img"
    try FileManager.default.createDirectory(atPath: mountPoint, withIntermediateDirectories: true)
    guard FileManager.default.createFile(atPath: image, contents: nil), truncate(image, bytes) == 0 else {
      throw FaultError("cannot make \(image)")
    }
    try await StartedProcess.run("/usr/sbin/mkfs.ext4", ["-q", "-F", "-m", "0", image], log: log)
    try await StartedProcess.run("/usr/bin/mount", ["-o", "loop", image, mountPoint], log: log)
    return Disk(mountPoint: mountPoint, log: log)
  }

  func unmount() async {
    // The server's last process may still be leaving.
    for _ in 0..<50 {
      if (try? await StartedProcess.run("/usr/bin/umount", [mountPoint], log: log)) != nil { return }
      try? await Task.sleep(for: .milliseconds(100))
    }
  }

  private var balloon: String { mountPoint + "/balloon" }

  /// Takes all the space there is.
  func fill() {
    let file = open(balloon, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    guard file >= 0 else { return }
    defer { close(file) }
    // The last blocks cannot be had in one piece; smaller and smaller ones can.
    var size: off_t = 0
    var piece: off_t = 64 << 20
    while piece >= 4096 {
      if posix_fallocate(file, size, piece) == 0 { size += piece } else { piece /= 2 }
    }
  }

  func empty() { unlink(balloon) }
}

extension Fleet {
  /// Statements fail, and when the log cannot grow the server does, too.
  func fillDisk(for length: Duration) async {
    guard let disk else { return }
    await server.take {
      disk.fill()
      try? await Task.sleep(for: length)
      disk.empty()
      try? await startServer()
    }
  }
}
