@testable import WardenProtocol

/// What the warden says to the worker.
enum WardenReplies: Fuzzer {
  static let samples: [WardenReply] = [
    .hello(
      WardenFacts(
        processID: 4_711, cgroup: .hybrid, mode: .userNamespace, namespaces: ["mnt", "pid"], filter: Array(0...63),
        firstUser: 200_001, userCount: 255, missing: [refusal])),
    .hello(
      WardenFacts(
        processID: 1, cgroup: .unified, mode: .root, namespaces: [], filter: [], firstUser: 1, userCount: 1,
        diskOutputs: refusal)),
    .cannot(refusal),
    .started(CellStart(cell: 1, user: 200_003, initProcessID: 99, namespaces: ["net"])),
    .refused(cell: 3, refusal),
    .finished(
      CellEnd(
        cell: 5, status: .signaled(31), stop: .wallClock, oomKills: 1, pidsLimitHits: 2, outputExhausted: true,
        wallMicroseconds: 3, cpuMicroseconds: 4, memoryPeakBytes: 0, emptied: true)),
    .finished(CellEnd(cell: 6, status: .unknown)),
    .finished(CellEnd(cell: 4, status: .exited(255), stop: .abandoned, emptied: false)),
  ]
  static let refusal = Refusal(control: "cgroup.memory", stage: "mkdir", errno: 13, fix: "delegate a group")

  static var seeds: [[UInt8]] { samples.map(\.encoded) }

  static func run(_ bytes: [UInt8]) {
    guard let reply = try? WardenReply(decoding: bytes) else { return }
    expect(reply.encoded == bytes, "what was decoded encodes to the same bytes")
    expect((try? WardenRequest(decoding: bytes)) == nil, "a reply is no request")
  }
}
