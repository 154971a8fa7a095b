import CordonCell

@testable import WardenProtocol
@testable import cordon_warden

/// What the warden writes for a process that waits, and that process reads in C without a library: a producer's
/// arguments and variables in the warden's spelling, and whatever else might come.
enum JobCalls: Fuzzer {
  private typealias Strings = (arguments: [[UInt8]], variables: [[UInt8]])

  static var seeds: [[UInt8]] {
    let call = JobCall(arguments: ["/usr/bin/env", "", "a\n"], environment: [.init(name: "A", value: "b=c")]).bytes
    return [
      [0] + call, [0] + call.dropLast(), [0] + call + [0], [0, 1, 0, 0, 0, 0, 0, 0, 0],
      [0, 0xFE, 7, 0, 0, 1, 0, 0, 0] + Array(repeating: 0, count: 2_047),
      [0, 0xFF, 0xFF, 0xFF, 0xFF, 2, 0, 0, 0, 0, 0], [1, 2, 1, 3, 0x2F, 0x61, 0x62, 0, 1, 0x41, 1, 0x42],
    ]
  }

  static func run(_ bytes: [UInt8]) {
    var choices = Choices(bytes)
    if choices.byte() % 2 == 0 { readAny(choices.remainder()) } else { readOrder(&choices) }
  }

  private static func readAny(_ bytes: [UInt8]) {
    guard let (arguments, variables) = read(bytes) else { return }
    expect(!arguments.isEmpty, "there is a program")
    let counts = [arguments.count, variables.count].flatMap { count in
      withUnsafeBytes(of: UInt32(count).littleEndian, Array.init)
    }
    expect(counts + (arguments + variables).flatMap { $0 + [0] } == bytes, "what was read is all there was")
  }

  private static func readOrder(_ choices: inout Choices) {
    let (arguments, variables) = (Int(choices.byte()) * 5, Int(choices.byte()) * 2)
    var order = CellOrder(cell: 1, stage: "s", arguments: ["/" + text(&choices)])
    order.arguments += (0..<arguments).map { _ in text(&choices) }
    order.environment = (0..<variables).map { _ in .init(name: "V" + text(&choices), value: text(&choices)) }
    guard order.problem == nil, order.arguments.count <= Bounds.arguments,
      order.environment.count <= Bounds.variables
    else { return }
    guard let found = read(JobCall(arguments: order.arguments, environment: order.environment).bytes) else {
      fatalError("an order without a problem is read: \(order)")
    }
    expect(found.arguments == order.arguments.map { Array($0.utf8) }, "arguments arrive")
    expect(found.variables == order.environment.map { Array("\($0.name)=\($0.value)".utf8) }, "variables arrive")
  }

  private static func text(_ choices: inout Choices) -> String {
    String(decoding: choices.bytes(Int(choices.byte() % 16)), as: UTF8.self)
  }

  /// Reads from memory of exactly this size, so that a step beyond is noticed.
  private static func read(_ bytes: [UInt8]) -> Strings? {
    let size = bytes.count
    let text = UnsafeMutableBufferPointer<CChar>.allocate(capacity: size)
    let strings = UnsafeMutableBufferPointer<UnsafeMutablePointer<CChar>?>.allocate(
      capacity: CALL_STRINGS)
    defer {
      text.deallocate()
      strings.deallocate()
    }
    _ = text.initialize(from: bytes.map { CChar(bitPattern: $0) })
    strings.initialize(repeating: nil)
    var variables: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
    guard read_call(text.baseAddress, size, strings.baseAddress, &variables) == 0 else { return nil }
    guard let variables, let first = strings.baseAddress else { fatalError("it says where the variables begin") }
    func list(_ from: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> [[UInt8]] {
      var (next, list): (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>, [[UInt8]]) = (from, [])
      while let string = next.pointee {
        list.append(sequence(first: string) { $0 + 1 }.prefix { $0.pointee != 0 }.map { UInt8(bitPattern: $0.pointee) })
        next += 1
      }
      return list
    }
    return (list(first), list(variables))
  }
}
