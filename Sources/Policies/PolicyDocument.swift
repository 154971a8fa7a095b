import Jobs

// What a policy says, as far as it can be judged without a database: `cordon.check_policy` judges the same again before
// anything is stored, and a test lets both judge one corpus.

/// A policy document that was judged as a whole.
public struct PolicyDocument: Sendable {
  /// What a document is for.
  public enum Kind: Sendable {
    /// The one that is in force for everybody; it says all there is to say.
    case ceiling
    /// Bound to a tenant, a queue, or one in the other. It can only narrow the ceiling: a member that is absent leaves what
    /// the ceiling says, an empty list is none.
    case narrowing
  }

  public let source: PolicySource
  public let kind: Kind
  /// Of the canonical form; the database names the document by it.
  public let digest: Digest

  /// - Throws: `PolicyProblem` with the path and the line of the first member at fault.
  public init(_ source: PolicySource, as kind: Kind) throws(PolicyProblem) {
    self.source = source
    self.kind = kind
    do {
      try PolicyCheck(kind: kind).check(source.value)
    } catch {
      throw PolicyProblem(error.path, line: source.line(of: error.path), error.reason)
    }
    do {
      digest = try CanonicalJSON.digest(source.value)
    } catch {
      throw PolicyProblem("policy", line: nil, "the number \(error.number) is no 64-bit float")
    }
  }

  /// The document as JSON, for the database.
  public var json: String {
    // Its digest is there, so its text is.
    (try? CanonicalJSON.text(source.value)) ?? "null"
  }
}

/// A limit's name in a document and how its amount is written.
public enum PolicyLimit: String, CaseIterable, Sendable {
  case cpus, files, grace, memory, output, pids, result, stdout, tmp, wall

  /// The amount in the unit that limits are stored in; nil for what is not written as this limit is.
  ///
  /// Milliseconds, bytes, thousandths of a processor, or a count. `cordon.read_limit` reads the same.
  public func amount(_ value: JSONValue) -> Int64? {
    switch self {
    case .wall, .grace: return value.string.flatMap(TimeSpan.init)?.milliseconds
    case .memory, .output, .result, .stdout, .tmp:
      return value.string.flatMap(ByteCount.init)?.bytes ?? Self.whole(value)
    case .cpus:
      guard let number = value.double, (0.01...1_000_000).contains(number) else { return nil }
      return Int64((number * 1_000).rounded())
    case .pids, .files: return Self.whole(value)
    }
  }

  var spelling: String {
    switch self {
    case .wall, .grace: "write a duration such as 5m, 30s or 500ms"
    case .memory, .output, .result, .stdout, .tmp: "write a size such as 256MiB, or a positive number of bytes"
    case .cpus: "write a number of processors such as 1 or 0.5, at least 0.01"
    case .pids, .files: "write a positive whole number"
    }
  }

  /// `cordon.read_policy_limit` has the same bounds: a year, a pebibyte, a million processors, an int.
  var most: Int64 {
    switch self {
    case .wall, .grace: 31_622_400_000
    case .memory, .output, .result, .stdout, .tmp: 1 << 50
    case .cpus: 1_000_000_000
    case .pids, .files: Int64(Int32.max)
    }
  }

  private static func whole(_ value: JSONValue) -> Int64? {
    guard let number = value.double, number >= 1 else { return nil }
    return value.integer ?? Int64(exactly: number)
  }
}
