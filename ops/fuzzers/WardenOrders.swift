@testable import WardenProtocol

/// Orders as a worker may come to ask for them: the warden leaves when it cannot decode one, and every cell goes with it,
/// so what is no problem to the worker that checks it must arrive.
enum WardenOrders: Fuzzer {
  static var seeds: [[UInt8]] {
    // The runtime, then counts and texts in the order in which they are drawn.
    [[0, 1, 0x73, 2, 1, 0x61, 0, 0], [1, 0, 6, 0, 0, 3, 0x6F, 0x73, 0], [2, 2, 0x61, 0x62, 0, 63, 0, 0x61, 0x2E]]
  }

  static func run(_ bytes: [UInt8]) {
    var choices = Choices(bytes)
    let isPython = choices.byte() % 2 == 1
    var order = CellOrder(cell: 1, stage: choices.text(), arguments: ["/usr/bin/true"])
    let imports = Array(repeating: 0, count: Int(choices.byte()) % 100).map { _ in choices.text() }
    if isPython {
      order.runtime = .python(imports: imports)
      order.arguments = CellRuntime.pythonCommand + ["/job/main.py"]
    }
    order.arguments += (0..<Int(choices.byte()) * 5).map { _ in choices.text() }
    order.environment = (0..<Int(choices.byte()) * 2).map { _ in .init(name: choices.text(), value: choices.text()) }
    // The sandbox counts these two itself.
    guard order.problem == nil, order.arguments.count <= Bounds.arguments,
      order.environment.count <= Bounds.variables
    else { return }
    WardenRequests.checkAccepted(order)
    expect(
      (try? WardenRequest(decoding: WardenRequest.run(order).encoded)) == .run(order),
      "an order without a problem arrives: \(order)")
  }
}

extension Choices {
  /// A short text; where bytes have run out one that passes for any name.
  fileprivate mutating func text() -> String {
    isEmpty ? "a" : String(decoding: bytes(Int(byte() % 16)), as: UTF8.self)
  }
}
