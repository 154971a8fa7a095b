/// What has to be known to build a cell: whatever is laid down before an order comes. Two orders of one shape can be
/// served by the same waiting cell.
public struct CellShape: Hashable, Sendable {
  public var memoryBytes: Int64
  public var cpuMillis: Int64
  public var pids: Int64
  public var outputBytes: Int64
  public var outputFiles: Int64
  public var temporaryBytes: Int64
  public var resultBytes: Int64
  public var runtime: CellRuntime
  public var outputs: CellOutputs
  /// Whether the kernel runs programs, and maps libraries, that lie in `/tmp`.
  public var isTemporaryExecutable: Bool
  /// The job may have sockets of TCP; which listeners there are is the order's.
  public var isNetworked: Bool

  public init(
    limits: CellLimits, runtime: CellRuntime, outputs: CellOutputs = .memory, isTemporaryExecutable: Bool = true,
    isNetworked: Bool = false
  ) {
    self.isNetworked = isNetworked
    self.isTemporaryExecutable = isTemporaryExecutable
    memoryBytes = limits.memoryBytes
    cpuMillis = limits.cpuMillis
    pids = limits.pids
    outputBytes = limits.outputBytes
    outputFiles = limits.outputFiles
    temporaryBytes = limits.temporaryBytes
    resultBytes = limits.resultBytes
    self.runtime = runtime
    self.outputs = outputs
  }
}

/// What `/output` lies on.
public enum CellOutputs: UInt8, Hashable, Sendable, CaseIterable {
  /// The cell's memory, and so within its memory limit.
  case memory = 1
  /// A filesystem of its own, of the size of its limits, in a file on the worker's disk.
  case disk = 2
}

/// How far a cell's main process has come when an order reaches it.
public enum CellRuntime: Hashable, Sendable {
  /// It executes the order's program.
  case program
  /// It is a `python3` that has started and imported these modules. Every one is an execution of its own, with an
  /// address space and a hash seed of its own.
  case python(imports: [String])
  /// The same, forked from one that did so for all cells with these modules: what nobody writes to is there once, and the
  /// layout of the address space and the hash seed are the same for all that are forked from one.
  case forkedPython(imports: [String])

  /// How the arguments of an order for a started interpreter begin; the script follows. `-I`: no variable and no
  /// directory of the job's changes what `import` finds; `-B`: the working directory is read-only; `-u`: what was
  /// printed before a kill is kept.
  public static let pythonCommand = ["/usr/bin/python3", "-I", "-B", "-u"]

  /// Modules that are imported before the order.
  public var imports: [String] {
    switch self {
    case .program: []
    case .python(let imports), .forkedPython(let imports): imports
    }
  }

  /// Dotted identifiers: the names end up in a program text.
  public static func isModuleName(_ name: String) -> Bool {
    guard name.utf8.count <= Bounds.moduleNameBytes else { return false }
    return name.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { part in
      guard let first = part.utf8.first, !(0x30...0x39).contains(first) else { return false }
      return part.utf8.allSatisfy { byte in
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x5F: true
        default: false
        }
      }
    }
  }
}
