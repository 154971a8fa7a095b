import Destinations
import Jobs

/// The rules of a document's members, one after another; the first that is broken is thrown.
struct PolicyCheck {
  struct Finding: Error {
    let path: String
    let reason: String

    init(_ path: String, _ reason: String) {
      self.path = path
      self.reason = reason
    }
  }

  let kind: PolicyDocument.Kind

  /// Those of both kinds. When an attempt is given up (`lease`) is one thing for all: it says nothing of what a job may do.
  /// Which credentials there are is said by the grants that name them; a document that narrows says which of them stay.
  private static let members = [
    "audiences", "ceilings", "defaults", "filesystem", "grants", "outputs", "retention", "runtimes", "version",
    "waivers", "warm",
  ]
  private static let runtimes = Words.oneOf(["bash", "exec", "python3"])
  private static let limits = PolicyLimit.allCases.map(\.rawValue)
  /// Entries of a list.
  private static let mostWords = 64
  func check(_ document: JSONValue) throws(Finding) {
    let members = try object(
      document, "policy", known: Self.members + (kind == .ceiling ? ["lease"] : ["credentials"]),
      required: kind == .ceiling ? ["ceilings", "defaults", "lease", "runtimes", "version"] : ["version"])
    guard members["version"] == .integer(1) else { throw Finding("version", "is not 1") }
    try check(members["runtimes"], "runtimes") { (value, path) throws(Finding) in
      try words(value, path, Self.runtimes)
    }
    try checkLimits(members)
    try check(members["lease"], "lease") { (value, path) throws(Finding) in try lease(value, path) }
    try check(members["waivers"], "waivers") { (value, path) throws(Finding) in
      try words(value, path, .oneOf(PolicyTerms.waivable.sorted()))
    }
    try check(members["outputs"], "outputs") { (value, path) throws(Finding) in
      let on = try object(value, path, known: ["on"], required: ["on"])["on"]
      guard on?.string.flatMap(OutputStorage.init) != nil else {
        throw Finding("\(path).on", "\(shown(on)) is unknown; use memory or disk")
      }
    }
    try check(members["credentials"], "credentials") { (value, path) throws(Finding) in
      try words(value, path, .credential)
    }
    try check(members["grants"], "grants") { (value, path) throws(Finding) in try grants(value, path) }
    try check(members["audiences"], "audiences") { (value, path) throws(Finding) in
      try words(value, path, .audience)
    }
    try check(members["filesystem"], "filesystem") { (value, path) throws(Finding) in try filesystem(value, path) }
    try check(members["retention"], "retention") { (value, path) throws(Finding) in try retention(value, path) }
    try check(members["warm"], "warm") { (value, path) throws(Finding) in try warm(value, path) }
  }

  private func check(
    _ value: JSONValue?, _ path: String, _ body: (JSONValue, String) throws(Finding) -> Void
  ) throws(Finding) {
    if let value { try body(value, path) }
  }

  private func checkLimits(_ members: [String: JSONValue]) throws(Finding) {
    let required = kind == .ceiling ? Self.limits : []
    var amounts: [String: [PolicyLimit: Int64]] = [:]
    for name in ["defaults", "ceilings"] {
      guard let given = members[name] else { continue }
      let values = try object(given, name, known: Self.limits, required: required)
      for limit in PolicyLimit.allCases {
        guard let value = values[limit.rawValue] else { continue }
        amounts[name, default: [:]][limit] = try amount(value, "\(name).\(limit.rawValue)", limit)
      }
    }
    for (limit, most) in amounts["ceilings"] ?? [:] {
      guard let usual = amounts["defaults"]?[limit], usual > most else { continue }
      throw Finding("defaults.\(limit.rawValue)", "is over the ceiling of the same document")
    }
  }

  private func amount(_ value: JSONValue, _ path: String, _ limit: PolicyLimit) throws(Finding) -> Int64 {
    guard let amount = limit.amount(value) else {
      throw Finding(path, "\(shown(value)) is not right; \(limit.spelling)")
    }
    guard amount <= limit.most else { throw Finding(path, "\(shown(value)) is more than any policy can allow") }
    return amount
  }

  private func lease(_ value: JSONValue, _ path: String) throws(Finding) {
    let members = try object(value, path, known: ["attempts", "margin"], required: ["attempts", "margin"])
    guard try amount(members["attempts"] ?? .null, "\(path).attempts", .pids) <= 100 else {
      throw Finding("\(path).attempts", "\(shown(members["attempts"])) is more than 100")
    }
    _ = try amount(members["margin"] ?? .null, "\(path).margin", .wall)
  }

  private func filesystem(_ value: JSONValue, _ path: String) throws(Finding) {
    let members = try object(value, path, known: ["inputs", "tmp"])
    try check(members["inputs"], "\(path).inputs") { (value, path) throws(Finding) in
      try words(value, path, .oneOf(Source.Kind.allCases.map(\.rawValue).sorted()))
    }
    try check(members["tmp"], "\(path).tmp") { (value, path) throws(Finding) in
      guard ["exec", "noexec"].contains(value.string) else {
        throw Finding(path, "\(shown(value)) is unknown; use exec or noexec")
      }
    }
  }

  private func retention(_ value: JSONValue, _ path: String) throws(Finding) {
    for (name, span) in try object(value, path, known: PolicyRetention.classes) {
      guard PolicyRetention.milliseconds(span) != nil else {
        throw Finding("\(path).\(name)", "\(shown(span)) is not right; write a number of days from 1d to 36525d")
      }
    }
  }

  private func warm(_ value: JSONValue, _ path: String) throws(Finding) {
    let name = Runtime.python3.rawValue
    guard let terms = try object(value, path, known: [name])[name] else { return }
    let members = try object(terms, "\(path).\(name)", known: ["mode", "imports"], required: ["mode"])
    guard members["mode"]?.string.flatMap(PolicyTerms.Warm.Mode.init) != nil else {
      throw Finding("\(path).\(name).mode", "\(shown(members["mode"])) is unknown; use interpreter or zygote")
    }
    try check(members["imports"], "\(path).\(name).imports") { (value, path) throws(Finding) in
      try words(value, path, .module)
    }
  }

  /// Destinations, by name; of a document that narrows, what is taken away from those of the ceiling.
  private func grants(_ value: JSONValue, _ path: String) throws(Finding) {
    guard let entries = value.object else { throw Finding(path, "\(shown(value)) is no object") }
    guard entries.count <= Self.mostGrants else { throw Finding(path, "has more than \(Self.mostGrants) entries") }
    var grants: [Grant] = []
    for (name, entry) in entries.sorted(by: { $0.key < $1.key }) {
      do {
        if kind == .ceiling {
          grants.append(try Grant(name: name, json: entry))
        } else {
          _ = try GrantNarrowing(name: name, json: entry)
        }
      } catch {
        throw Finding(error.path, error.reason)
      }
    }
    for (index, grant) in grants.enumerated() {
      let isTaken = grants[..<index].contains {
        $0.host == grant.host && ($0.port == grant.port || $0.listenPort == grant.listenPort)
      }
      guard !isTaken else {
        throw Finding("\(path).\(grant.name)", "leads where another grant leads; one place has one grant")
      }
    }
  }

  /// Listeners in a cell are bounded (`WardenProtocol.Bounds.listeners`), and one is for a proxy.
  private static let mostGrants = 16

  // MARK: - Shapes

  private func object(
    _ value: JSONValue, _ path: String, known: [String], required: [String] = []
  ) throws(Finding) -> [String: JSONValue] {
    guard let members = value.object else { throw Finding(path, "\(shown(value)) is no object") }
    let base = path == "policy" ? "" : path
    if let stranger = Set(members.keys).subtracting(known).min() {
      throw Finding(
        MemberPath.member(stranger, of: base), "unknown member; the members are \(known.joined(separator: ", "))")
    }
    if let absent = required.first(where: { members[$0] == nil }) {
      throw Finding(MemberPath.member(absent, of: base), "is missing")
    }
    return members
  }

  private func words(_ value: JSONValue, _ path: String, _ rule: Words) throws(Finding) {
    guard let entries = value.array else { throw Finding(path, "\(shown(value)) is no array of strings") }
    guard entries.count <= Self.mostWords else {
      throw Finding(path, "\(entries.count) entries; at most \(Self.mostWords) are allowed")
    }
    var seen: Set<String> = []
    for (index, entry) in entries.enumerated() {
      let place = MemberPath.entry(index, of: path)
      guard let word = entry.string else { throw Finding(place, "\(shown(entry)) is no string") }
      guard seen.insert(word).inserted else { throw Finding(place, "\(shown(entry)) is there twice") }
      if let objection = rule.objection(to: word) { throw Finding(place, "\(shown(entry)) \(objection)") }
    }
  }

  /// A value in a finding: short, and on one line.
  private func shown(_ value: JSONValue?) -> String {
    switch value {
    case nil, .null?: "null"
    case .bool(let value)?: "\(value)"
    case .integer(let value)?: "\(value)"
    case .number(let value)?: "\(value)"
    case .decimal(let value)?: "\(value)"
    case .string(let text)?: "'\(text.prefix(80).split(whereSeparator: \.isNewline).joined(separator: " "))'"
    case .array?: "an array"
    case .object?: "an object"
    }
  }
}
