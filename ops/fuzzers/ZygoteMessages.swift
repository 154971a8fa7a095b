@testable import WardenProtocol
@testable import cordon_warden

/// Between the warden and a zygote, which is as privileged, but has loaded python3 and the modules of a policy.
enum ZygoteMessages: Fuzzer {
  static var seeds: [[UInt8]] {
    let refusal = WardenReplies.refusal
    let shape = CellShape(
      limits: CellLimits(), runtime: .forkedPython(imports: ["json", "os.path"]), outputs: .memory)
    let orders: [ZygoteOrder] = [.prepare(imports: []), .prepare(imports: ["json"]), .fork(user: 200_001, shape)]
    let replies: [ZygoteReply] = [
      .ready, .cannot(refusal), .forked(processID: 4_711), .laid, .notForked(refusal), .refused(refusal),
    ]
    return orders.map(\.encoded) + replies.map(\.encoded)
      + ["7f0-7f1 rw-s 0 0:1 1 /dev/zero\n7f1-7f2 rw-p 0 0:0 0\n", "7f0-7f1 r--s 0 0:1 1 /a w s\n"].map {
        Array($0.utf8)
      }
  }

  static func run(_ bytes: [UInt8]) {
    let order = try? ZygoteOrder(decoding: bytes)
    let reply = try? ZygoteReply(decoding: bytes)
    expect(order == nil || reply == nil, "an order is no reply")
    if let order { expect(order.encoded == bytes, "what was decoded encodes to the same bytes") }
    if let reply { expect(reply.encoded == bytes, "what was decoded encodes to the same bytes") }
    switch order {
    case .prepare(let imports): checkModules(imports)
    case .fork(_, let shape): checkModules(shape.runtime.imports)
    case nil: break
    }
    // Lines of the kernel's, in which a library or a file that was mapped chose the name at the end.
    let name = String(decoding: bytes.filter { $0 != 0x0A && $0 != 0x0D }.prefix(256), as: UTF8.self)
    expect(
      ZygoteProcess.sharedMemory(maps: "7f0-7f1 r--s 0 0:1 1 \(name)\n7f1-7f2 rw-p 0 0:1 1 \(name)\n") == nil,
      "no name makes memory shared: \(name)")
    expect(
      ZygoteProcess.sharedMemory(maps: "7f1-7f2 rw-p 0 0:1 1 \(name)\n7f0-7f1 rw-s 0 0:1 1 \(name)\n") != nil,
      "no name hides memory that is shared: \(name)")
  }

  /// Whether they are names the warden has seen to, before there was a zygote (`WardenRequests`).
  private static func checkModules(_ names: [String]) {
    expect(
      names.count <= Bounds.modules && names.allSatisfy { $0.utf8.count <= Bounds.moduleNameBytes },
      "modules have their bounds")
  }
}
