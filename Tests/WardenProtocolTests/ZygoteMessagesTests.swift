import Testing

@testable import WardenProtocol

@Suite struct ZygoteMessagesTests {
  private static let refusal = Refusal(control: "runtime.zygote", stage: "load", errno: 2, fix: "install it")
  private static let limits = CellLimits(memoryBytes: 1, cpuMillis: 2, pids: 3, outputBytes: 4, outputFiles: 5)

  /// Made anew each time: the case's tag lies in bits of the list's address, and the leak checker takes one that is kept
  /// for lost.
  private static var orders: [ZygoteOrder] {
    [
      .prepare(imports: []), .prepare(imports: ["json", "os.path"]),
      .fork(user: 0x7000_0001, CellShape(limits: limits, runtime: .forkedPython(imports: ["json"]), outputs: .disk)),
      .fork(
        user: 1, CellShape(limits: limits, runtime: .forkedPython(imports: []), isTemporaryExecutable: false)),
    ]
  }
  private static let replies: [ZygoteReply] = [
    .ready, .cannot(refusal), .forked(processID: 42), .laid, .refused(refusal), .notForked(refusal),
  ]

  @Test func whatIsSaidIsHeard() throws {
    for order in Self.orders { #expect(try ZygoteOrder(decoding: order.encoded) == order) }
    for reply in Self.replies { #expect(try ZygoteReply(decoding: reply.encoded) == reply) }
  }

  @Test func nothingElseIsHeard() {
    for bytes in Self.orders.map(\.encoded) + Self.replies.map(\.encoded) {
      for count in 0..<bytes.count {
        let cut = Array(bytes.prefix(count))
        #expect(throws: MalformedMessage.self) { try ZygoteOrder(decoding: cut) }
        #expect(throws: MalformedMessage.self) { try ZygoteReply(decoding: cut) }
      }
      #expect(throws: MalformedMessage.self) { try ZygoteOrder(decoding: bytes + [0]) }
      #expect(throws: MalformedMessage.self) { try ZygoteReply(decoding: bytes + [0]) }
    }
    for order in Self.orders { #expect(throws: MalformedMessage.self) { try ZygoteReply(decoding: order.encoded) } }
    for reply in Self.replies { #expect(throws: MalformedMessage.self) { try ZygoteOrder(decoding: reply.encoded) } }
  }
}
