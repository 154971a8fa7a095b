import Glibc

// Theory of operation
//
// The watchdog is a shell in a session of its own that reads from a socket whose other end is ours alone. However
// we end, by returning, by a crash or by SIGKILL, that end closes; the shell then stops the server at once and
// removes the directory. It is started before the server is, so there is no moment at which a server could be left.

/// Sees to it that a cluster in a directory of no worth ends with this process.
public struct Watchdog: Sendable {
  /// The directory that goes; the cluster belongs in it.
  public let directory: String
  private let process: pid_t
  private let lifeline: Int32

  private static let script = """
    trap '' HUP INT TERM
    directory=$1; shift
    while read -r line; do :; done
    "$@"
    rm -rf -- "$directory"
    """

  /// Makes an empty directory and the watchdog that removes it with everything in it.
  /// - Parameter parent: where; /tmp may be memory, which a cluster that is to be durable must not be on.
  public static func start(beneath parent: String = "/tmp") throws -> Watchdog {
    var template = Array("\(parent)/cordon-throwaway-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw failure("mkdtemp") }
    let directory = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    // The server's user passes through; what it may not see is in directories of its own.
    guard chmod(directory, 0o711) == 0 else { throw failure("chmod") }
    let stop = try DataDirectory(directory).immediateStop()
    var ends: [Int32] = [-1, -1]
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, type, 0, &ends) == 0 else { throw failure("socketpair") }
    defer { close(ends[1]) }
    do {
      let shell = Command(
        arguments: ["/bin/sh", "-c", script, "cordon-watchdog", directory] + stop)
      return Watchdog(directory: directory, process: try shell.spawn(input: ends[1], output: nil), lifeline: ends[0])
    } catch {
      close(ends[0])
      rmdir(directory)
      throw error
    }
  }

  /// Lets it work now and waits until server and directory are gone. Once only.
  public func finish() {
    close(lifeline)
    _ = Command.wait(for: process)
  }

  private static func failure(_ call: String) -> ClusterError {
    ClusterError("watchdog", "\(call): \(String(cString: strerror(errno)))")
  }
}
