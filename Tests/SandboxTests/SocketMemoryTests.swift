import Glibc
import Jobs
import Kernel
import Testing

@testable import Sandbox

/// Socket buffers are memory too. What no group counts shows only on the host, so the host is looked at.
@Suite("Socket memory", .serialized) struct SocketMemoryTests {
  /// Fills sockets of one kind as far as it gets, then tells and waits. `tcp` leaves its connections unaccepted, which
  /// is when v1 does not count them.
  private static let fill = """
    import socket, sys, time
    kind, sent, kept = sys.argv[1], 0, []
    def pour(s, size):
      global sent
      s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
      s.setblocking(False)
      try:
        while sent < 512 << 20: sent += s.send(b'x' * size)
      except OSError: pass
      kept.append(s)
    try:
      if kind == 'tcp':
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        listener.bind(('127.0.0.1', 0))
        listener.listen(4096)
      while sent < 512 << 20:
        if kind == 'tcp':
          pour(socket.create_connection(listener.getsockname()), 65536)
        elif kind == 'udp':
          s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
          s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
          s.bind(('127.0.0.1', 0))
          s.connect(s.getsockname())
          pour(s, 32000)
        else:
          for s in socket.socketpair(socket.AF_UNIX, int(kind)): pour(s, 32000)
    except PermissionError: print('refused')
    except OSError: pass
    print(sent, flush=True)
    time.sleep(1)
    """

  /// Bytes that TCP and UDP hold on this host, in all network namespaces.
  private static func internetBytes() throws -> Int {
    var pages = 0
    for line in try readFile("/proc/net/sockstat").split(separator: "\n") {
      let words = line.split(separator: " ")
      if let index = words.firstIndex(of: "mem"), index + 1 < words.count { pages += Int(words[index + 1]) ?? 0 }
    }
    return pages * Int(getpagesize())
  }

  @Test(arguments: ["tcp", "udp", "1", "2", "5"])
  func theMemoryLimitHoldsForSocketBuffers(_ kind: String) async throws {
    try await withBench { (bench) async throws in
      let limit = 64 << 20
      let before = try Self.internetBytes()
      let (cell, stage) = try await bench.start(
        ["/usr/bin/python3", "-I", "-c", Self.fill, kind],
        limits: Limits(wallMilliseconds: 30_000, memoryBytes: Int64(limit)))
      defer { stage.remove() }
      let most = Task {
        var most = 0
        while !Task.isCancelled {
          most = max(most, try Self.internetBytes() - before)
          try? await Task.sleep(for: .milliseconds(20))
        }
        return most
      }
      let ran = try await bench.finish(cell)
      most.cancel()
      #expect(try await most.value < limit)
      if ["tcp", "udp"].contains(kind) {
        #expect(ran.stdout == "refused\n0\n")
      } else {
        #expect(ran.outcome == .outOfMemory, "the buffers are the cell's memory: \(ran.stdout)")
      }
    }
  }
}
