import Glibc
import Jobs
import Kernel
import Testing

@testable import Sandbox

/// A network namespace goes from cell to cell only while the kernel says that nothing is in it.
@Suite("Networks", .serialized) struct NetworkReuseTests {
  /// An empty network namespace is used again; one in which a socket is left never is. The kernel collects what jobs leave
  /// faster than could be waited for, so the socket is held from outside.
  @Test func aNetworkIsUsedAgainOnlyIfItIsEmpty() async throws {
    let look = """
      import os
      print(os.readlink("/proc/self/ns/net"), open("/proc/self/net/sockstat").readline().strip())
      """
    try await withBench { (bench) async throws in
      func next() async throws -> String {
        let seen = try await bench.python(look).stdout
        try #require(seen.hasSuffix(" sockets: used 0\n"), "\(seen)")
        return seen
      }
      var networks: [String] = []
      for _ in 0..<12 {
        networks.append(try await next())
        try await Task.sleep(for: .milliseconds(50))
      }
      #expect(Set(networks).count < networks.count, "control: none is used again: \(networks)")

      let (cell, stage) = try await bench.start(["/usr/bin/sleep", "300"])
      defer { stage.remove() }
      let job = try #require(try processes(of: cell.uid).first)
      var holder: pid_t = 0
      let hold = "import socket, time; kept = socket.socket(socket.AF_UNIX); print(1, flush=True); time.sleep(300)"
      let (reader, writer) = try Descriptor.pipe()
      var actions = posix_spawn_file_actions_t()
      posix_spawn_file_actions_init(&actions)
      defer { posix_spawn_file_actions_destroy(&actions) }
      posix_spawn_file_actions_adddup2(&actions, writer.raw, 1)
      let argv: [String] = ["/usr/bin/nsenter", "-t", job, "-n", "/usr/bin/python3", "-c", hold]
      let words: [UnsafeMutablePointer<CChar>?] = argv.map { strdup($0) }
      defer { for word in words { free(word) } }
      try #require(posix_spawn(&holder, "/usr/bin/nsenter", &actions, nil, words + [nil], environ) == 0)
      defer {
        kill(holder, SIGKILL)
        waitpid(holder, nil, 0)
      }
      var byte: UInt8 = 0
      try #require(read(reader.raw, &byte, 1) == 1)
      cell.stop(.cancelled)
      _ = try await bench.finish(cell)
      for _ in 0..<12 {
        _ = try await next()
        try await Task.sleep(for: .milliseconds(50))
      }
    }
  }
}
