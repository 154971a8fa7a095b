// Between the warden and a zygote, over a packet socket that no job ever holds; see `ZygoteProcess` in cordon-warden. The
// warden says `prepare` once and is answered `ready` or `cannot`. Then each `fork` is answered by the zygote, with
// `forked` or `notForked`; where there is a process, it says `laid` or `refused` itself, and may be the first to speak.

/// What the warden asks of a zygote.
public enum ZygoteOrder: Equatable, Sendable {
  /// Start the interpreter and import these. Descriptor: the root of a proc filesystem.
  case prepare(imports: [String])
  /// Descriptors: the new process's socket, a pidfd of the cell's init, the v2 group, the other groups, and at last
  /// the filesystem of /output where the shape wants one on a disk.
  case fork(user: UInt32, CellShape)
}

/// What a zygote, or a process that it forked, says.
public enum ZygoteReply: Equatable, Sendable {
  /// No descriptors.
  case ready
  /// No descriptors. The zygote exits.
  case cannot(Refusal)
  /// Descriptor: its pidfd. The process is the warden's child.
  case forked(processID: Int32)
  /// Descriptors: the roots of /output and of /result.
  case laid
  /// No descriptors. There is no process.
  case notForked(Refusal)
  /// No descriptors. The process exits.
  case refused(Refusal)
}

private enum Tag: UInt8 {
  case prepare = 1
  case fork
  case ready = 16
  case cannot, forked, laid, refused, notForked
}

extension ZygoteOrder {
  /// The packet's bytes; `init(decoding:)` reads them back.
  public var encoded: [UInt8] {
    var writer = ByteWriter()
    switch self {
    case .prepare(let imports):
      writer.put(Tag.prepare.rawValue)
      writer.put(list: imports) { $0.put($1) }
    case .fork(let user, let shape):
      writer.put(Tag.fork.rawValue)
      writer.put(user)
      for limit in [
        shape.memoryBytes, shape.cpuMillis, shape.pids, shape.outputBytes, shape.outputFiles, shape.temporaryBytes,
        shape.resultBytes,
      ] {
        writer.put(limit)
      }
      writer.put(list: shape.runtime.imports) { $0.put($1) }
      writer.put(shape.outputs.rawValue)
      writer.put(shape.isTemporaryExecutable)
    }
    return writer.bytes
  }

  /// Reads one packet.
  public init(decoding bytes: [UInt8]) throws(MalformedMessage) {
    var reader = try ByteReader.open(bytes)
    switch try reader.takeCase(Tag.self) {
    case .prepare: self = .prepare(imports: try reader.takeModules())
    case .fork:
      let user: UInt32 = try reader.take()
      var limits = CellLimits()
      limits.memoryBytes = try reader.take()
      limits.cpuMillis = try reader.take()
      limits.pids = try reader.take()
      limits.outputBytes = try reader.take()
      limits.outputFiles = try reader.take()
      limits.temporaryBytes = try reader.take()
      limits.resultBytes = try reader.take()
      let runtime = CellRuntime.forkedPython(imports: try reader.takeModules())
      self = .fork(
        user: user,
        CellShape(
          limits: limits, runtime: runtime, outputs: try reader.takeCase(),
          isTemporaryExecutable: try reader.takeBool()))
    default: throw reader.malformed("a reply where an order belongs")
    }
    try reader.finish()
  }
}

extension ZygoteReply {
  /// The packet's bytes; `init(decoding:)` reads them back.
  public var encoded: [UInt8] {
    var writer = ByteWriter()
    switch self {
    case .ready: writer.put(Tag.ready.rawValue)
    case .cannot(let refusal):
      writer.put(Tag.cannot.rawValue)
      writer.put(refusal)
    case .forked(let processID):
      writer.put(Tag.forked.rawValue)
      writer.put(processID)
    case .laid: writer.put(Tag.laid.rawValue)
    case .refused(let refusal):
      writer.put(Tag.refused.rawValue)
      writer.put(refusal)
    case .notForked(let refusal):
      writer.put(Tag.notForked.rawValue)
      writer.put(refusal)
    }
    return writer.bytes
  }

  /// Reads one packet.
  public init(decoding bytes: [UInt8]) throws(MalformedMessage) {
    var reader = try ByteReader.open(bytes)
    switch try reader.takeCase(Tag.self) {
    case .ready: self = .ready
    case .cannot: self = .cannot(try reader.takeRefusal())
    case .forked: self = .forked(processID: try reader.take())
    case .laid: self = .laid
    case .refused: self = .refused(try reader.takeRefusal())
    case .notForked: self = .notForked(try reader.takeRefusal())
    default: throw reader.malformed("an order where a reply belongs")
    }
    try reader.finish()
  }
}
