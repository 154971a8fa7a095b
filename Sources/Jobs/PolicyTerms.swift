import FoundationEssentials

/// What a policy says to the worker that runs a job under it. The limits and runtimes of a policy are the database's
/// to judge at enqueue; these are the terms that only the one who makes the cell can keep.
///
/// The database is strict about what becomes a policy (`cordon.check_policy`); this is strict again, because a worker
/// that does not know a member cannot keep it.
public struct PolicyTerms: Equatable, Sendable {
  /// Cells that wait with an interpreter started.
  public struct Warm: Equatable, Sendable {
    public enum Mode: String, Sendable {
      /// Each cell starts an interpreter of its own, so each has an address space laid out anew.
      case interpreter
      /// Cells are forked from one interpreter and share its memory, and with it the layout of their address spaces.
      case zygote
    }

    public var mode: Mode
    /// Modules that are imported before the job arrives, in this order.
    public var imports: [String]

    public init(mode: Mode, imports: [String] = []) {
      self.mode = mode
      self.imports = imports
    }
  }

  /// The document is not one that this build can keep.
  public struct Problem: Error, Equatable, CustomStringConvertible {
    public let description: String

    init(_ path: String, _ what: String) {
      description = "policy: \(path): \(what)"
    }
  }

  /// Controls that a worker may lack and still run jobs of this policy; empty is none.
  public var waivers: Set<String> = []
  /// Warm cells by runtime; empty is none.
  public var warm: [Runtime: Warm] = [:]

  /// What outputs lie on.
  public var outputs = OutputStorage.memory

  /// For whom tokens may be made that say who an attempt is; empty is nobody.
  public var audiences: Set<String> = []

  /// Where inputs and programs may come from.
  public var inputs = Set(Source.Kind.allCases)

  /// Whether the kernel runs programs, and maps libraries, that lie in `/tmp`.
  public var isTemporaryExecutable = true

  /// What jobs may reach, by name, as the document says it: the broker reads each grant strictly before anything listens.
  public var grants: [String: JSONValue] = [:]

  /// What a worker that can keep `outputs` on a disk offers; `cordon.offers_asked_for()` has it, too.
  public static let diskOffer = "outputs.disk"

  /// The controls that a policy can waive at all: those that bound what cells can do to each other and to the host's
  /// load. Without the others a cell is none. `cordon.waivable_controls()` is this list; a test compares them.
  public static let waivable: Set = ["cgroup.pids", "cgroup.swap", "groups", "landlock", "uids"]

  public init() {}

  /// - Parameter document: a policy's text, of which only the name has been checked.
  public init(document: String) throws(Problem) {
    guard let value = try? JSONDecoder().decode(JSONValue.self, from: Data(document.utf8)) else {
      throw Problem("document", "is no JSON")
    }
    let members = try Self.members(of: value, "document", known: Self.members)
    guard members["version"] == .integer(1) else { throw Problem("version", "is not 1") }
    if let given = members["waivers"] {
      waivers = Set(try Self.words(given, "waivers"))
      if let stranger = waivers.subtracting(Self.waivable).min() {
        throw Problem("waivers", "'\(stranger)' cannot be waived")
      }
    }
    if let given = members["outputs"] {
      guard let on = try Self.members(of: given, "outputs", known: ["on"])["on"]?.string.flatMap(OutputStorage.init)
      else { throw Problem("outputs.on", "is unknown") }
      outputs = on
    }
    if let given = members["audiences"] { audiences = Set(try Self.words(given, "audiences")) }
    if let given = members["filesystem"] { try readFilesystem(given) }
    if let given = members["grants"] {
      guard let named = given.object else { throw Problem("grants", "is no object") }
      grants = named
    }
    if let given = members["warm"] {
      for (name, terms) in try Self.members(of: given, "warm", known: [Runtime.python3.rawValue]) {
        warm[.python3] = try Self.warm(terms, "warm.\(name)")
      }
    }
  }

  /// The controls among `missing` that these terms do not waive, in order.
  public func unwaived(_ missing: some Sequence<String>) -> [String] {
    missing.filter { !waivers.contains($0) || !Self.waivable.contains($0) }.sorted()
  }

  /// Why a job's inputs, or its program, may not come from where it says; nil where they may. `cordon.check_sources` judges the same.
  public func objection(to specification: JobSpecification) -> String? {
    specification.sources.first { !inputs.contains($0.source.kind) }.map {
      "\($0.field): \($0.source.kind.rawValue) is a kind of input that policy does not allow"
    }
  }

  /// How an operator waives the control, as part of an advice; nil where no policy can.
  public static func waiving(_ control: String) -> String? {
    waivable.contains(control) ? #"a policy with "waivers": ["\#(control)"]"# : nil
  }

  // MARK: - Reading

  private static let members: Set = [
    "audiences", "ceilings", "defaults", "filesystem", "grants", "lease", "outputs", "retention", "runtimes", "version",
    "waivers", "warm",
  ]

  private static func members(
    of value: JSONValue, _ path: String, known: Set<String>
  ) throws(Problem) -> [String: JSONValue] {
    guard let members = value.object else { throw Problem(path, "is no object") }
    if let stranger = Set(members.keys).subtracting(known).min() { throw Problem(path, "'\(stranger)' is unknown") }
    return members
  }

  private static func words(_ value: JSONValue, _ path: String) throws(Problem) -> [String] {
    guard let words = value.array?.map(\.string), !words.contains(nil) else {
      throw Problem(path, "is no array of strings")
    }
    let present = words.compactMap { $0 }
    guard Set(present).count == present.count, !present.contains("") else {
      throw Problem(path, "holds an entry twice, or an empty one")
    }
    return present
  }

  private mutating func readFilesystem(_ value: JSONValue) throws(Problem) {
    let members = try Self.members(of: value, "filesystem", known: ["inputs", "tmp"])
    if let given = members["inputs"] {
      let kinds = try Self.words(given, "filesystem.inputs").map(Source.Kind.init(rawValue:))
      guard !kinds.contains(nil) else { throw Problem("filesystem.inputs", "holds a kind that is unknown") }
      inputs = Set(kinds.compactMap { $0 })
    }
    if let given = members["tmp"] {
      guard given == .string("exec") || given == .string("noexec") else {
        throw Problem("filesystem.tmp", "is unknown")
      }
      isTemporaryExecutable = given == .string("exec")
    }
  }

  private static func warm(_ value: JSONValue, _ path: String) throws(Problem) -> Warm {
    let members = try members(of: value, path, known: ["mode", "imports"])
    guard let mode = members["mode"]?.string.flatMap(Warm.Mode.init) else {
      throw Problem("\(path).mode", "is unknown")
    }
    let imports = try members["imports"].map { (given) throws(Problem) in try words(given, "\(path).imports") } ?? []
    // What is imported becomes part of a program; nothing but a dotted name may.
    guard imports.allSatisfy({ $0.wholeMatch(of: /[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*/) != nil }) else {
      throw Problem("\(path).imports", "holds what is no name of a module")
    }
    return Warm(mode: mode, imports: imports)
  }
}
