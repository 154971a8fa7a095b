import Glibc

// Theory of operation
//
// All fuzzers are one program, because linking is most of the cost of building one; the environment names the one to
// run. libFuzzer brings `main`, calls `LLVMFuzzerInitialize` once and `LLVMFuzzerTestOneInput` for every input, and
// takes a trap for a finding. Swift's own checks (overflow, bounds, `nil`) are on in a release build, so a fuzzer
// only adds what its parser promises beyond not trapping, by `expect`.
//
// With CORDON_FUZZER_SEEDS the program writes the seeds of the fuzzer into that directory, and the words for
// libFuzzer's dictionary beside it, instead of fuzzing. ops/fuzz does both steps.

/// One parser and what must hold for whatever bytes it is given.
protocol Fuzzer {
  /// Well-formed inputs, and some that are nearly so.
  static var seeds: [[UInt8]] { get }
  /// Parts of inputs that chance would not find.
  static var words: [[UInt8]] { get }
  /// Traps when a promise is broken.
  static func run(_ bytes: [UInt8])
}

extension Fuzzer {
  static var words: [[UInt8]] { [] }
}

/// By the names of their files.
nonisolated(unsafe) private let fuzzers: [String: any Fuzzer.Type] = [
  "CellMessages": CellMessages.self,
  "CgroupValues": CgroupValues.self,
  "ClientHellos": ClientHellos.self,
  "Endpoints": Endpoints.self,
  "EscapedNames": EscapedNames.self,
  "Inspections": Inspections.self,
  "InstanceNames": InstanceNames.self,
  "IntrospectionForms": IntrospectionForms.self,
  "JSONValues": JSONValues.self,
  "JobCalls": JobCalls.self,
  "LogBuffers": LogBuffers.self,
  "MessageBodies": MessageBodies.self,
  "MountTables": MountTables.self,
  "OutputTrees": OutputTrees.self,
  "Packets": Packets.self,
  "PolicyDocuments": PolicyDocuments.self,
  "PolicySources": PolicySources.self,
  "PostgresTexts": PostgresTexts.self,
  "ProcessStats": ProcessStats.self,
  "ProxyRequests": ProxyRequests.self,
  "RecordViews": RecordViews.self,
  "RequestHeads": RequestHeads.self,
  "ResponseHeads": ResponseHeads.self,
  "ResultDocuments": ResultDocuments.self,
  "ScheduleDocuments": ScheduleDocuments.self,
  "Specifications": Specifications.self,
  "StreamCaptures": StreamCaptures.self,
  "TerminalTexts": TerminalTexts.self,
  "Tokens": Tokens.self,
  "WardenOrders": WardenOrders.self,
  "WardenReplies": WardenReplies.self,
  "WardenRequests": WardenRequests.self,
  "ZygoteMessages": ZygoteMessages.self,
]

/// A promise of the parser under test.
func expect(_ holds: Bool, _ promise: @autoclosure () -> String) {
  if !holds { fatalError("broken promise: \(promise())") }
}

/// Choices drawn from an input, for what is no plain text: a sequence of calls, a tree of files.
struct Choices {
  private var rest: ArraySlice<UInt8>

  init(_ bytes: [UInt8]) { rest = bytes[...] }

  var isEmpty: Bool { rest.isEmpty }

  /// 0 when nothing is left.
  mutating func byte() -> UInt8 { rest.popFirst() ?? 0 }

  mutating func number(below bound: Int) -> Int { Int(UInt16(byte()) << 8 | UInt16(byte())) % bound }

  /// Up to as many bytes as there are left.
  mutating func bytes(_ count: Int) -> [UInt8] {
    defer { rest = rest.dropFirst(count) }
    return Array(rest.prefix(count))
  }

  mutating func remainder() -> [UInt8] {
    defer { rest = [] }
    return Array(rest)
  }
}

nonisolated(unsafe) private var chosen: any Fuzzer.Type = WardenRequests.self

@_cdecl("LLVMFuzzerInitialize")
public func initialize(
  _ count: UnsafeMutablePointer<CInt>,
  _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>
) -> CInt {
  guard let name = getenv("CORDON_FUZZER").map({ String(cString: $0) }), let fuzzer = fuzzers[name] else {
    leave("CORDON_FUZZER names no fuzzer; there are \(fuzzers.keys.sorted().joined(separator: ", "))")
  }
  chosen = fuzzer
  if let directory = getenv("CORDON_FUZZER_SEEDS").map({ String(cString: $0) }) {
    for (index, seed) in fuzzer.seeds.enumerated() { write(seed, to: "\(directory)/seed-\(index)") }
    let lines = fuzzer.words.map { "\"" + $0.map { "\\x" + hexadecimal($0) }.joined() + "\"\n" }
    write(Array(lines.joined().utf8), to: "\(directory).words")
    exit(0)
  }
  return 0
}

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  chosen.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
  return 0
}

private func hexadecimal(_ byte: UInt8) -> String { (byte < 16 ? "0" : "") + String(byte, radix: 16) }

private func write(_ bytes: [UInt8], to path: String) {
  guard let file = fopen(path, "w"), fwrite(bytes, 1, bytes.count, file) == bytes.count, fclose(file) == 0 else {
    leave("cannot write \(path): \(String(cString: strerror(errno)))")
  }
}

private func leave(_ why: String) -> Never {
  let line = Array("error: \(why)\n".utf8)
  _ = Glibc.write(STDERR_FILENO, line, line.count)
  exit(2)
}
