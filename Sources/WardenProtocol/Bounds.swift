/// What a message may hold at most. The decoder refuses what is beyond; the warden checks orders once more.
public enum Bounds {
  /// Bytes of one encoded message. An order carries argv and environment of a job, whose specification has at
  /// most 1 MiB of text, and the interpreter's words; the kernel itself takes about 2 MiB.
  public static let message = 3 << 20
  /// The specification's 1024 arguments and the words of the interpreter that precede them.
  public static let arguments = 1_100
  /// The kernel's MAX_ARG_STRLEN, which counts the final NUL.
  public static let argumentBytes = 128 << 10
  /// The specification's 256 variables and those the worker sets.
  public static let variables = 320
  public static let stageNameBytes = 64
  /// Modules a waiting interpreter imports.
  public static let modules = 64
  public static let moduleNameBytes = 128
  /// Strings of refusals and lists of names.
  public static let textBytes = 4 << 10
  public static let names = 64
  /// Listeners in one cell; their descriptors travel in one packet.
  public static let listeners = 17
  /// BPF_MAXINSNS instructions of 8 bytes.
  public static let filterBytes = 4_096 * 8
}

extension CellOrder {
  /// Why the warden must not carry this order out; nil when it may.
  ///
  /// Names have a fixed alphabet, so a stage cannot be a path, a dot entry or an option.
  public var problem: Refusal? {
    guard stage.isEmpty || CellOrder.isPlainName(stage) else {
      return Refusal(control: "order.stage", stage: "a stage is a name of [A-Za-z0-9_-] of at most 64 bytes")
    }
    guard let program = arguments.first, program.utf8.first == 0x2F else {
      return Refusal(control: "order.arguments", stage: "the program is an absolute path inside the cell")
    }
    for argument in arguments where argument.utf8.contains(0) || argument.utf8.count >= Bounds.argumentBytes {
      return Refusal(control: "order.arguments", stage: "an argument has less than 128 KiB and no NUL")
    }
    for variable in environment {
      guard !variable.name.isEmpty, !variable.name.utf8.contains(0), !variable.name.utf8.contains(0x3D),
        !variable.value.utf8.contains(0),
        variable.name.utf8.count + variable.value.utf8.count + 1 < Bounds.argumentBytes
      else {
        return Refusal(control: "order.environment", stage: "a variable has a name without '=' and no NUL")
      }
    }
    return network?.problem(stage: stage) ?? runtimeProblem ?? limits.problem
  }

  private var runtimeProblem: Refusal? {
    if runtime == .program { return nil }
    guard runtime.imports.count <= Bounds.modules else {
      return Refusal(control: "order.runtime", stage: "at most \(Bounds.modules) modules are imported")
    }
    guard runtime.imports.allSatisfy(CellRuntime.isModuleName) else {
      return Refusal(control: "order.runtime", stage: "a module is named by identifiers with dots between them")
    }
    let command = CellRuntime.pythonCommand
    guard arguments.count > command.count, Array(arguments.prefix(command.count)) == command,
      arguments[command.count].utf8.first == 0x2F
    else {
      return Refusal(
        control: "order.runtime", stage: "a started interpreter runs \(command.joined(separator: " ")) and a script")
    }
    return nil
  }

  static func isPlainName(_ name: String) -> Bool {
    let bytes = name.utf8
    guard !bytes.isEmpty, bytes.count <= Bounds.stageNameBytes else { return false }
    return bytes.allSatisfy { byte in
      switch byte {
      case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x5F: true
      default: false
      }
    }
  }
}

extension CellLimits {
  /// The range of each limit: below the least a cell cannot start, above the most the number is no limit any more
  /// or would overflow when it is turned into the kernel's units.
  static var ranges: [(name: String, value: @Sendable (CellLimits) -> Int64, range: ClosedRange<Int64>)] {
    [
      ("wall", { $0.wallMilliseconds }, 1...(30 * 86_400_000)),
      ("grace", { $0.graceMilliseconds }, 0...600_000),
      ("memory", { $0.memoryBytes }, (4 << 20)...(1 << 44)),
      ("cpus", { $0.cpuMillis }, 10...1_024_000),
      ("pids", { $0.pids }, 1...1_000_000),
      ("output", { $0.outputBytes }, 0...(1 << 44)),
      ("files", { $0.outputFiles }, 0...100_000_000),
      ("tmp", { $0.temporaryBytes }, 0...(1 << 44)),
      ("result", { $0.resultBytes }, 0...(64 << 20)),
    ]
  }

  /// The first limit outside its range; nil when all are sane.
  public var problem: Refusal? {
    for (name, value, range) in CellLimits.ranges where !range.contains(value(self)) {
      return Refusal(
        control: "order.limits",
        stage: "limits.\(name): \(value(self)) is not within \(range.lowerBound)...\(range.upperBound)")
    }
    return nil
  }
}
