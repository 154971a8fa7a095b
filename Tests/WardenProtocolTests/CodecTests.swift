import Testing

@testable import WardenProtocol

private let refusal = Refusal(control: "cgroup.memory", stage: "mkdir", errno: 13, fix: "delegate a group")

private let requests: [WardenRequest] = [
  .run(
    CellOrder(
      cell: .max, stage: "a-Z_9", arguments: ["/usr/bin/python3", "", "ü\n\u{1F512}"],
      environment: [.init(name: "A", value: ""), .init(name: "LANG", value: "C.UTF-8")],
      limits: CellLimits(
        wallMilliseconds: 1, graceMilliseconds: 2, memoryBytes: 3, cpuMillis: 4, pids: 5, outputBytes: 6,
        outputFiles: 7, temporaryBytes: 8, resultBytes: -9))),
  .run(CellOrder(cell: 0, stage: "", arguments: ["/a"], runtime: .python(imports: ["json", "os.path"]))),
  .run(CellOrder(cell: 1, stage: "", arguments: ["/a"], outputs: .disk)),
  .run(CellOrder(cell: 1, stage: "", arguments: ["/a"], isTemporaryExecutable: false)),
  .run(
    CellOrder(
      cell: 2, stage: "s", arguments: ["/a"],
      network: CellNetwork(listeners: [.init(address: 0x7F00_0002, port: 443), .init(address: .max, port: .max)]))),
  .stop(CellStop(cell: 7, cause: .abandoned, graceMilliseconds: 1_500)),
  .freeze(cell: 8, true), .freeze(cell: 9, false),
  .shutdown,
]

private let replies: [WardenReply] = [
  .hello(
    WardenFacts(
      processID: 4_711, cgroup: .hybrid, mode: .userNamespace, namespaces: ["mnt", "pid"],
      filter: Array(0...255), networkFilter: [1, 2], landlock: 7, firstUser: 200_001, userCount: 255,
      missing: [refusal, refusal])),
  .hello(
    WardenFacts(
      processID: 1, cgroup: .unified, mode: .root, namespaces: [], filter: [], firstUser: 1, userCount: 1,
      diskOutputs: refusal)),
  .cannot(refusal),
  .listening(cell: 9),
  .started(CellStart(cell: 1, user: 200_003, initProcessID: 99, namespaces: ["net"])),
  .refused(cell: 3, refusal),
  .finished(CellEnd(cell: 4, status: .exited(255), emptied: false)),
  .finished(
    CellEnd(
      cell: 5, status: .signaled(31), stop: .wallClock, oomKills: 1, pidsLimitHits: 2, outputExhausted: true,
      wallMicroseconds: 3, cpuMicroseconds: 4, memoryPeakBytes: 0, emptied: true)),
  .finished(
    CellEnd(
      cell: 7, start: CellStart(cell: 7, user: 2, initProcessID: 3, namespaces: ["net", "pid"]), status: .exited(0))),
  .finished(CellEnd(cell: 6, status: .unknown, stop: .cancelled, memoryPeakBytes: .max)),
]

@Suite struct CodecTests {
  @Test(arguments: requests) func requestsRoundTrip(_ request: WardenRequest) throws {
    #expect(try WardenRequest(decoding: request.encoded) == request)
  }

  @Test(arguments: replies) func repliesRoundTrip(_ reply: WardenReply) throws {
    #expect(try WardenReply(decoding: reply.encoded) == reply)
  }

  @Test func everyPrefixIsRefused() {
    for request in requests {
      for length in 0..<request.encoded.count {
        #expect(throws: MalformedMessage.self) { try WardenRequest(decoding: Array(request.encoded.prefix(length))) }
      }
    }
    for reply in replies {
      for length in 0..<reply.encoded.count {
        #expect(throws: MalformedMessage.self) { try WardenReply(decoding: Array(reply.encoded.prefix(length))) }
      }
    }
  }

  @Test func bytesBehindTheEndAreRefused() {
    for request in requests {
      #expect(throws: MalformedMessage.self) { try WardenRequest(decoding: request.encoded + [0]) }
    }
    for reply in replies {
      #expect(throws: MalformedMessage.self) { try WardenReply(decoding: reply.encoded + [0]) }
    }
  }

  @Test func requestsAreNoReplies() {
    for request in requests { #expect(throws: MalformedMessage.self) { try WardenReply(decoding: request.encoded) } }
    for reply in replies { #expect(throws: MalformedMessage.self) { try WardenRequest(decoding: reply.encoded) } }
  }

  @Test func anotherVersionIsRefused() {
    var bytes = WardenRequest.shutdown.encoded
    bytes[0] += 1
    #expect(throws: MalformedMessage.self) { try WardenRequest(decoding: bytes) }
  }

  /// A count that promises more than the packet holds must be refused before anything is allocated for it.
  @Test func oversizeCountsAreRefused() {
    var stage = WardenRequest.run(CellOrder(cell: 1, stage: "s", arguments: ["/x"])).encoded
    // Version, kind and cell precede the length of the stage's name.
    stage.replaceSubrange(10..<14, with: [0xFF, 0xFF, 0xFF, 0xFF])
    #expect(throws: MalformedMessage.self) { try WardenRequest(decoding: stage) }
    let many = CellOrder(cell: 1, stage: "s", arguments: Array(repeating: "/x", count: Bounds.arguments + 1))
    #expect(throws: MalformedMessage.self) { try WardenRequest(decoding: WardenRequest.run(many).encoded) }
    let huge = CellOrder(
      cell: 1, stage: "s",
      arguments: Array(repeating: String(repeating: "a", count: Bounds.argumentBytes - 1), count: 25))
    #expect(throws: MalformedMessage.self) { try WardenRequest(decoding: WardenRequest.run(huge).encoded) }
  }

  @Test(arguments: [0, 3, 255] as [UInt8]) func outputsLieWhereTheProtocolSays(_ other: UInt8) {
    var bytes = WardenRequest.run(CellOrder(cell: 1, stage: "", arguments: ["/a"], outputs: .disk)).encoded
    // Before what is said of /tmp and the flag of a network that is not there.
    #expect(bytes.suffix(3) == [CellOutputs.disk.rawValue, 1, 0])
    bytes[bytes.count - 3] = other
    #expect(throws: MalformedMessage.self) { try WardenRequest(decoding: bytes) }
  }

  /// Listeners elsewhere than on the cell's loopback interface, twice the same, none or too many, or without names.
  @Test(
    arguments: [
      ([(0x7F00_0002, 443)], "s", true), ([(0x7F00_0002, 443), (0x7F00_0002, 80)], "s", true),
      ([(0x7F00_0002, 443)], "", false), ([], "s", false), ([(0x0A00_0001, 443)], "s", false),
      ([(0x7F00_0002, 0)], "s", false), ([(0x7F00_0002, 443), (0x7F00_0002, 443)], "s", false),
      ((1...18).map { (0x7F00_0000 + $0, 443) }, "s", false),
    ] as [([(UInt32, UInt16)], String, Bool)])
  func networksAreLoopbackListeners(_ listeners: [(UInt32, UInt16)], _ stage: String, _ holds: Bool) {
    let network = CellNetwork(listeners: listeners.map { .init(address: $0.0, port: $0.1) })
    let order = CellOrder(cell: 1, stage: stage, arguments: ["/a"], network: network)
    #expect((order.problem == nil) == holds)
    #expect(order.shape.isNetworked)
    #expect(order.shape != CellOrder(cell: 1, stage: stage, arguments: ["/a"]).shape)
  }

  @Test func outputsAreOfTheShape() {
    let memory = CellOrder(cell: 1, stage: "", arguments: ["/a"])
    #expect(memory.outputs == .memory)
    var disk = memory
    disk.outputs = .disk
    #expect(disk.shape != memory.shape, "a waiting cell of one serves no order for the other")
  }

  @Test func textThatIsNotUTF8IsRefused() {
    var bytes = WardenReply.cannot(Refusal(control: "abc", stage: "")).encoded
    bytes[6] = 0xFF
    #expect(throws: MalformedMessage.self) { try WardenReply(decoding: bytes) }
  }

  /// Whatever arrives, decoding ends with a value that encodes to the same bytes or with an error.
  @Test func randomAndDamagedBytesNeverCrash() {
    var random = SplitMix(state: 0x5EED)
    let samples = requests.map(\.encoded) + replies.map(\.encoded)
    var refused = 0
    for round in 0..<20_000 {
      var bytes = samples[round % samples.count]
      if round % 4 == 0 {
        bytes = (0..<Int(random.next() % 200)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      } else {
        for _ in 0...Int(random.next() % 4) {
          bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
        }
      }
      if let request = try? WardenRequest(decoding: bytes) {
        #expect(request.encoded == bytes)
      } else if let reply = try? WardenReply(decoding: bytes) {
        #expect(reply.encoded == bytes)
      } else {
        refused += 1
      }
    }
    #expect(refused > 5_000)
  }
}

@Suite struct OrderTests {
  private let good = CellOrder(
    cell: 1, stage: "stage-1", arguments: ["/usr/bin/true"], environment: [.init(name: "A", value: "b=c")])

  private func control(_ change: (inout CellOrder) -> Void) -> String? {
    var order = good
    change(&order)
    return order.problem?.control
  }

  @Test func aPlainOrderIsAccepted() { #expect(good.problem == nil) }

  @Test func nothingMayBeStaged() { #expect(control { $0.stage = "" } == nil) }

  @Test(arguments: [".", "..", "a/b", "/a", "a b", "ä", "a\0", String(repeating: "a", count: 65)])
  func aStageIsNoPath(_ stage: String) { #expect(control { $0.stage = stage } == "order.stage") }

  @Test(arguments: ["", "a b", "os;x", "1a", "a..b", ".a", "a.", "ä", String(repeating: "a", count: 129)])
  func aModuleIsNoProgramText(_ name: String) {
    let script = CellRuntime.pythonCommand + ["/job/main.py"]
    let runtimes: [CellRuntime] = [.python(imports: [name]), .python(imports: ["os", name])]
    for runtime in runtimes {
      #expect(control { ($0.arguments, $0.runtime) = (script, runtime) } == "order.runtime")
    }
    #expect(control { ($0.arguments, $0.runtime) = (script, .python(imports: ["os.path", "_a1"])) } == nil)
  }

  @Test(arguments: [
    ["/usr/bin/python3", "/job/main.py"], CellRuntime.pythonCommand, CellRuntime.pythonCommand + ["-c"],
    ["/usr/bin/true", "-I", "-B", "-u", "/job/main.py"],
  ])
  func aStartedInterpreterTakesAScriptOnly(_ arguments: [String]) {
    #expect(control { ($0.arguments, $0.runtime) = (arguments, .python(imports: [])) } == "order.runtime")
  }

  @Test func argumentsAreChecked() {
    #expect(control { $0.arguments = [] } == "order.arguments")
    #expect(control { $0.arguments = ["true"] } == "order.arguments")
    #expect(control { $0.arguments = [""] } == "order.arguments")
    #expect(control { $0.arguments.append("a\0b") } == "order.arguments")
    #expect(control { $0.arguments.append(String(repeating: "a", count: Bounds.argumentBytes)) } == "order.arguments")
    #expect(control { $0.arguments.append(String(repeating: "a", count: Bounds.argumentBytes - 1)) } == nil)
  }

  @Test func theEnvironmentIsChecked() {
    for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "\0")] {
      #expect(control { $0.environment = [.init(name: name, value: value)] } == "order.environment")
    }
  }

  @Test func everyLimitHasARange() {
    let members: [WritableKeyPath<CellLimits, Int64>] = [
      \.wallMilliseconds, \.graceMilliseconds, \.memoryBytes, \.cpuMillis, \.pids, \.outputBytes, \.outputFiles,
      \.temporaryBytes, \.resultBytes,
    ]
    #expect(CellLimits.ranges.count == members.count)
    for member in members {
      for value in [Int64.min, -1, Int64.max] {
        #expect(control { $0.limits[keyPath: member] = value } == "order.limits")
      }
    }
  }
}

/// A small generator with a fixed seed, so that a failure can be repeated.
struct SplitMix {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
