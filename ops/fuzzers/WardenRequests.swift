@testable import WardenProtocol
@testable import cordon_warden

/// What a compromised worker can send to the warden.
enum WardenRequests: Fuzzer {
  static var seeds: [[UInt8]] {
    let order = CellOrder(
      cell: 7, stage: "a-Z_9", arguments: ["/usr/bin/python3", "", "\u{FC}\n"],
      environment: [.init(name: "A", value: ""), .init(name: "LANG", value: "C.UTF-8")])
    let bare = CellOrder(cell: .max, stage: "s", arguments: ["/x"])
    let python = CellOrder(
      cell: 1, stage: "", arguments: CellRuntime.pythonCommand + ["/job/main.py"],
      runtime: .python(imports: ["json", "os.path"]))
    let disk = CellOrder(cell: 2, stage: "", arguments: ["/x"], outputs: .disk)
    let requests: [WardenRequest] =
      [.run(order), .run(bare), .run(python), .run(disk), .shutdown]
      + StopCause.allCases.map { .stop(CellStop(cell: 7, cause: $0, graceMilliseconds: 1_500)) }
    return requests.map(\.encoded)
  }

  static func run(_ bytes: [UInt8]) {
    guard let request = try? WardenRequest(decoding: bytes) else { return }
    expect(request.encoded == bytes, "what was decoded encodes to the same bytes")
    switch request {
    case .run(let order): if order.problem == nil { checkAccepted(order) }
    case .freeze: break
    case .stop(let stop):
      let begun = Instant(microseconds: 1 << 50)
      expect(begun.advanced(milliseconds: max(0, stop.graceMilliseconds)) >= begun, "a grace ends after its beginning")
    case .shutdown: break
    }
  }

  static func checkAccepted(_ order: CellOrder) {
    expect(
      (0...64).contains(order.stage.utf8.count) && !order.stage.utf8.contains { [0, 0x2E, 0x2F].contains($0) },
      "a stage that is accepted is one plain path component")
    expect(order.arguments.first?.utf8.first == UInt8(ascii: "/"), "the program is an absolute path")
    expect(!order.arguments.contains { $0.utf8.contains(0) }, "no argument has a NUL")
    for variable in order.environment {
      expect(!variable.name.isEmpty && !variable.name.utf8.contains(UInt8(ascii: "=")), "a variable has a name")
      expect(!(variable.name + variable.value).utf8.contains(0), "no variable has a NUL")
    }
    for name in order.runtime.imports {
      expect(
        !name.isEmpty && name.utf8.allSatisfy { isIdentifier($0) || $0 == UInt8(ascii: ".") },
        "a module that is accepted cannot end the program text it stands in")
    }
    let limits = order.limits
    for (amount, most) in [
      (limits.wallMilliseconds, 1 << 32), (limits.graceMilliseconds, 1 << 32), (limits.memoryBytes, 1 << 44),
      (limits.cpuMillis, 1 << 32), (limits.pids, 1 << 32), (limits.outputBytes, 1 << 44),
      (limits.outputFiles, 1 << 32), (limits.temporaryBytes, 1 << 44), (limits.resultBytes, 1 << 44),
    ] {
      expect(amount >= 0 && amount <= most, "a limit that is accepted overflows nowhere")
    }
  }

  private static func isIdentifier(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x5F: true
    default: false
    }
  }
}
