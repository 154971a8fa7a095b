// Wire form: one byte protocol version, one byte message kind, then the members in declaration order. Optionals are
// a flag and the value. Both sides are of one build, so an unknown version or kind is an error, not a negotiation.

/// Raised whenever a message's bytes change their meaning.
public let wardenProtocolVersion: UInt8 = 6

private enum Kind: UInt8 {
  case run = 1
  case stop, shutdown, freeze
  case hello = 16
  case cannot, started, refused, finished, listening
}

extension ByteWriter {
  fileprivate init(_ kind: Kind) {
    put(wardenProtocolVersion)
    put(kind.rawValue)
  }

  fileprivate mutating func put(_ start: CellStart) {
    put(start.cell)
    put(start.user)
    put(start.initProcessID)
    put(list: start.namespaces) { $0.put($1) }
  }

  mutating func put(_ refusal: Refusal) {
    put(refusal.control)
    put(refusal.stage)
    put(refusal.errno)
    put(refusal.fix)
  }
}

extension ByteReader {
  fileprivate mutating func takeKind() throws(MalformedMessage) -> Kind {
    let version: UInt8 = try take()
    guard version == wardenProtocolVersion else {
      throw malformed("protocol version \(version), not \(wardenProtocolVersion)")
    }
    let raw: UInt8 = try take()
    guard let kind = Kind(rawValue: raw) else { throw malformed("unknown message kind \(raw)") }
    return kind
  }

  fileprivate mutating func takeStart() throws(MalformedMessage) -> CellStart {
    CellStart(cell: try take(), user: try take(), initProcessID: try take(), namespaces: try takeNames())
  }

  mutating func takeRefusal() throws(MalformedMessage) -> Refusal {
    Refusal(control: try takeText(), stage: try takeText(), errno: try take(), fix: try takeText())
  }

  mutating func takeCase<Case: RawRepresentable>(
    _: Case.Type = Case.self
  ) throws(MalformedMessage) -> Case where Case.RawValue == UInt8 {
    let raw: UInt8 = try take()
    guard let value = Case(rawValue: raw) else { throw malformed("unknown \(Case.self) \(raw)") }
    return value
  }

  fileprivate mutating func takeOptional<Value>(
    _ value: (inout ByteReader) throws(MalformedMessage) -> Value
  ) throws(MalformedMessage) -> Value? {
    try takeBool() ? try value(&self) : nil
  }

  fileprivate mutating func takeNames() throws(MalformedMessage) -> [String] {
    try takeList(atMost: Bounds.names) { reader throws(MalformedMessage) in try reader.takeText() }
  }

  mutating func takeModules() throws(MalformedMessage) -> [String] {
    try takeList(atMost: Bounds.modules) { reader throws(MalformedMessage) in
      try reader.takeText(atMost: Bounds.moduleNameBytes)
    }
  }

  static func open(_ bytes: [UInt8]) throws(MalformedMessage) -> ByteReader {
    guard bytes.count <= Bounds.message else {
      throw MalformedMessage(reason: "\(bytes.count) bytes where at most \(Bounds.message) may stand", offset: 0)
    }
    return ByteReader(bytes)
  }
}

extension WardenRequest {
  /// The packet's bytes; `init(decoding:)` reads them back.
  public var encoded: [UInt8] {
    switch self {
    case .run(let order):
      var writer = ByteWriter(.run)
      writer.put(order.cell)
      writer.put(order.stage)
      writer.put(list: order.arguments) { $0.put($1) }
      writer.put(list: order.environment) { writer, variable in
        writer.put(variable.name)
        writer.put(variable.value)
      }
      for limit in order.limits.wireOrder { writer.put(limit) }
      writer.put(order.runtime.tag)
      writer.put(list: order.runtime.imports) { $0.put($1) }
      writer.put(order.outputs.rawValue)
      writer.put(order.isTemporaryExecutable)
      writer.put(order.network != nil)
      if let network = order.network {
        writer.put(list: network.listeners) { writer, listener in
          writer.put(listener.address)
          writer.put(listener.port)
        }
      }
      return writer.bytes
    case .stop(let stop):
      var writer = ByteWriter(.stop)
      writer.put(stop.cell)
      writer.put(stop.cause.rawValue)
      writer.put(stop.graceMilliseconds)
      return writer.bytes
    case .freeze(let cell, let isFrozen):
      var writer = ByteWriter(.freeze)
      writer.put(cell)
      writer.put(isFrozen)
      return writer.bytes
    case .shutdown:
      return ByteWriter(.shutdown).bytes
    }
  }

  /// Reads one packet. It is well-formed when this returns; whether an order is acceptable is `CellOrder.problem`.
  public init(decoding bytes: [UInt8]) throws(MalformedMessage) {
    var reader = try ByteReader.open(bytes)
    switch try reader.takeKind() {
    case .run:
      let cell: UInt64 = try reader.take()
      let stage = try reader.takeText(atMost: Bounds.stageNameBytes)
      let arguments = try reader.takeList(atMost: Bounds.arguments) { reader throws(MalformedMessage) in
        try reader.takeText(atMost: Bounds.argumentBytes)
      }
      let environment = try reader.takeList(atMost: Bounds.variables) { reader throws(MalformedMessage) in
        CellOrder.Variable(
          name: try reader.takeText(atMost: Bounds.argumentBytes),
          value: try reader.takeText(atMost: Bounds.argumentBytes))
      }
      let limits = CellLimits(
        wallMilliseconds: try reader.take(), graceMilliseconds: try reader.take(), memoryBytes: try reader.take(),
        cpuMillis: try reader.take(), pids: try reader.take(), outputBytes: try reader.take(),
        outputFiles: try reader.take(), temporaryBytes: try reader.take(), resultBytes: try reader.take())
      self = .run(
        CellOrder(
          cell: cell, stage: stage, arguments: arguments, environment: environment, limits: limits,
          runtime: try CellRuntime(from: &reader), outputs: try reader.takeCase(),
          isTemporaryExecutable: try reader.takeBool(),
          network: try reader.takeOptional { reader throws(MalformedMessage) in
            CellNetwork(
              listeners: try reader.takeList(atMost: Bounds.listeners) { reader throws(MalformedMessage) in
                CellNetwork.Listener(address: try reader.take(), port: try reader.take())
              })
          }))
    case .stop:
      self = .stop(
        CellStop(cell: try reader.take(), cause: try reader.takeCase(), graceMilliseconds: try reader.take()))
    case .freeze:
      self = .freeze(cell: try reader.take(), try reader.takeBool())
    case .shutdown:
      self = .shutdown
    case .hello, .cannot, .listening, .started, .refused, .finished:
      throw reader.malformed("a reply where a request belongs")
    }
    try reader.finish()
  }
}

extension CellRuntime {
  fileprivate var tag: UInt8 {
    switch self {
    case .program: 1
    case .python: 2
    case .forkedPython: 3
    }
  }

  fileprivate init(from reader: inout ByteReader) throws(MalformedMessage) {
    let tag: UInt8 = try reader.take()
    let imports = try reader.takeModules()
    switch tag {
    case 1 where imports.isEmpty: self = .program
    case 2: self = .python(imports: imports)
    case 3: self = .forkedPython(imports: imports)
    default: throw reader.malformed("unknown runtime \(tag)")
    }
  }
}

extension CellLimits {
  fileprivate var wireOrder: [Int64] {
    [
      wallMilliseconds, graceMilliseconds, memoryBytes, cpuMillis, pids, outputBytes, outputFiles, temporaryBytes,
      resultBytes,
    ]
  }
}

extension WardenReply {
  /// The packet's bytes; `init(decoding:)` reads them back.
  public var encoded: [UInt8] {
    switch self {
    case .hello(let facts):
      var writer = ByteWriter(.hello)
      writer.put(facts.processID)
      writer.put(facts.cgroup.rawValue)
      writer.put(facts.mode.rawValue)
      writer.put(list: facts.namespaces) { $0.put($1) }
      writer.put(facts.filter)
      writer.put(facts.networkFilter)
      writer.put(facts.landlock)
      writer.put(facts.firstUser)
      writer.put(facts.userCount)
      writer.put(list: facts.missing) { $0.put($1) }
      writer.put(facts.diskOutputs != nil)
      if let why = facts.diskOutputs { writer.put(why) }
      return writer.bytes
    case .cannot(let refusal):
      var writer = ByteWriter(.cannot)
      writer.put(refusal)
      return writer.bytes
    case .listening(let cell):
      var writer = ByteWriter(.listening)
      writer.put(cell)
      return writer.bytes
    case .started(let start):
      var writer = ByteWriter(.started)
      writer.put(start)
      return writer.bytes
    case .refused(let cell, let refusal):
      var writer = ByteWriter(.refused)
      writer.put(cell)
      writer.put(refusal)
      return writer.bytes
    case .finished(let end):
      var writer = ByteWriter(.finished)
      writer.put(end.cell)
      end.status.put(into: &writer)
      writer.put(end.stop?.rawValue ?? 0)
      writer.put(end.oomKills)
      writer.put(end.pidsLimitHits)
      writer.put(end.outputExhausted)
      writer.put(end.wallMicroseconds)
      writer.put(end.cpuMicroseconds)
      writer.put(end.memoryPeakBytes != nil)
      if let peak = end.memoryPeakBytes { writer.put(peak) }
      writer.put(end.emptied)
      writer.put(end.start != nil)
      if let start = end.start { writer.put(start) }
      return writer.bytes
    }
  }

  /// Reads one packet.
  public init(decoding bytes: [UInt8]) throws(MalformedMessage) {
    var reader = try ByteReader.open(bytes)
    switch try reader.takeKind() {
    case .hello:
      self = .hello(
        WardenFacts(
          processID: try reader.take(), cgroup: try reader.takeCase(), mode: try reader.takeCase(),
          namespaces: try reader.takeNames(), filter: try reader.takeBytes(atMost: Bounds.filterBytes),
          networkFilter: try reader.takeBytes(atMost: Bounds.filterBytes),
          landlock: try reader.take(), firstUser: try reader.take(), userCount: try reader.take(),
          missing: try reader.takeList(atMost: Bounds.names) { reader throws(MalformedMessage) in
            try reader.takeRefusal()
          }, diskOutputs: try reader.takeOptional { reader throws(MalformedMessage) in try reader.takeRefusal() }))
    case .cannot:
      self = .cannot(try reader.takeRefusal())
    case .listening: self = .listening(cell: try reader.take())
    case .started: self = .started(try reader.takeStart())
    case .refused:
      self = .refused(cell: try reader.take(), try reader.takeRefusal())
    case .finished:
      self = .finished(try CellEnd(from: &reader))
    case .run, .stop, .freeze, .shutdown:
      throw reader.malformed("a request where a reply belongs")
    }
    try reader.finish()
  }
}

extension CellEnd {
  fileprivate init(from reader: inout ByteReader) throws(MalformedMessage) {
    let cell: UInt64 = try reader.take()
    let status = try Status(from: &reader)
    let rawStop: UInt8 = try reader.take()
    let stop = StopCause(rawValue: rawStop)
    guard stop != nil || rawStop == 0 else { throw reader.malformed("unknown stop cause \(rawStop)") }
    self.init(
      cell: cell, status: status, stop: stop, oomKills: try reader.take(), pidsLimitHits: try reader.take(),
      outputExhausted: try reader.takeBool(), wallMicroseconds: try reader.take(),
      cpuMicroseconds: try reader.take(),
      memoryPeakBytes: try reader.takeOptional { reader throws(MalformedMessage) in try reader.take(UInt64.self) },
      emptied: try reader.takeBool())
    start = try reader.takeOptional { reader throws(MalformedMessage) in try reader.takeStart() }
  }
}

extension CellEnd.Status {
  fileprivate func put(into writer: inout ByteWriter) {
    switch self {
    case .exited(let code):
      writer.put(UInt8(1))
      writer.put(code)
    case .signaled(let signal):
      writer.put(UInt8(2))
      writer.put(signal)
    case .unknown:
      writer.put(UInt8(3))
      writer.put(Int32(0))
    }
  }

  fileprivate init(from reader: inout ByteReader) throws(MalformedMessage) {
    let kind: UInt8 = try reader.take()
    let value: Int32 = try reader.take()
    switch kind {
    case 1: self = .exited(value)
    case 2: self = .signaled(value)
    case 3 where value == 0: self = .unknown
    default: throw reader.malformed("unknown status \(kind)")
    }
  }
}
