import Crypto
import Foundation
import Jobs
import Kernel
import Sandbox

/// Copies published artifacts into a directory of the caller's.
///
/// The names come from a job. Each is opened beneath the published directory and made beneath the target with
/// openat2 and without following any link, so that no name can lead out of either; an existing file is an error.
struct Export {
  let published: String
  let target: String

  private static let chunk = 1 << 20

  func copy(_ artifacts: [Artifact]) throws {
    try Installation.makeDirectory(target)
    let source = try Descriptor.open(published, O_RDONLY | O_DIRECTORY)
    let destination = try Descriptor.open(target, O_RDONLY | O_DIRECTORY)
    for artifact in artifacts {
      guard let components = EscapedName.components(of: artifact.path) else {
        throw Failure(.refused, "artifact '\(artifact.path)' has no name that can be exported")
      }
      try copy(artifact, components, from: source, to: destination)
    }
  }

  private func copy(
    _ artifact: Artifact, _ components: [[UInt8]], from source: Descriptor, to destination: Descriptor
  ) throws {
    let path = Array(components.joined(separator: [UInt8(ascii: "/")]))
    let input = try source.open(beneath: path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    var directory = destination
    for component in components.dropLast() {
      let made = (component + [0]).withUnsafeBytes {
        mkdirat(directory.raw, $0.baseAddress!.assumingMemoryBound(to: CChar.self), 0o755)
      }
      guard made == 0 || errno == EEXIST else {
        throw Failure(.environment, "cannot make a directory in '\(target)': \(String(cString: strerror(errno)))")
      }
      directory = try directory.open(beneath: component, O_RDONLY | O_DIRECTORY)
    }
    let output: Descriptor
    do {
      output = try directory.open(beneath: components.last!, O_WRONLY | O_CREAT | O_EXCL, mode: 0o644)
    } catch {
      // Written out: Swift 6.3 crashes on a `where` after a typed catch.
      guard error.errno == EEXIST else { throw error }
      throw Failure(.usage, "--to: '\(artifact.path)' exists in '\(target)' already; name another directory")
    }
    var hash = SHA256()
    var buffer = [UInt8](repeating: 0, count: Self.chunk)
    while true {
      let count = read(input.raw, &buffer, buffer.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else {
        throw Failure(.environment, "cannot read '\(artifact.path)': \(String(cString: strerror(errno)))")
      }
      if count == 0 { break }
      hash.update(data: buffer[..<count])
      try output.writeAll(buffer[..<count])
    }
    guard Jobs.Digest(sha256: hash.finalize()) == artifact.sha256 else {
      throw Failure(.environment, "'\(artifact.path)' no longer has the digest of the record; do not use the copy")
    }
  }
}
