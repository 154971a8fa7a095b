import Jobs

/// Why a grant of a policy is none: the member and what is wrong with it.
public struct GrantProblem: Error, Equatable, CustomStringConvertible {
  /// The member, such as `grants.packages.port`.
  public let path: String
  public let reason: String

  public var description: String { "\(path): \(reason)" }
}

/// What a policy lets a job reach, as it stands in the policy's JSON under `grants.<name>`.
public struct Grant: Sendable, Equatable {
  public enum Mode: String, Sendable, CaseIterable {
    /// Bytes, whatever they are.
    case tcp
    /// TLS from end to end, to the name that its ClientHello asks for.
    case opaque
    /// Cleartext HTTP/1.1 in the cell, TLS outside.
    case http
    /// TLS in the cell by the attempt's own authority, read as HTTP/1.1, TLS outside.
    case inspect

    package var readsRequests: Bool { self == .http || self == .inspect }
  }

  public enum Phase: String, Sendable, CaseIterable {
    /// With the network and without the job's code.
    case fetch
    /// With the job's code.
    case run
  }

  /// What of a server's answer the job is given.
  public enum Answer: String, Sendable, CaseIterable {
    case whole
    /// Its status; fields and body are read away. For an endpoint that is written to and should say nothing.
    case status
  }

  /// What one grant may be used for, over the whole attempt. All are at least 1.
  public struct Budget: Sendable, Equatable {
    /// Bytes from the job and to the job, as they cross the cell's end of the connection.
    public var sentBytes: Int64
    public var receivedBytes: Int64
    /// HTTP requests.
    public var requests: Int64
    /// Connections to the server.
    public var connections: Int64

    /// Cordon's own choice, where a policy says nothing: enough for an ordinary install of packages or a query's answer, and
    /// little enough to send out that a copied data set does not fit.
    public static let usual = Budget(sentBytes: 1 << 20, receivedBytes: 256 << 20, requests: 1_000, connections: 256)

    public init(sentBytes: Int64, receivedBytes: Int64, requests: Int64, connections: Int64) {
      self.sentBytes = sentBytes
      self.receivedBytes = receivedBytes
      self.requests = requests
      self.connections = connections
    }
  }

  public let name: String
  public let host: Endpoint.Host
  public let port: UInt16
  public let mode: Mode
  /// Where the cell's listener for it is.
  public let listenPort: UInt16
  /// For `http` and `inspect`; nothing else may be asked.
  public let allow: [RoutePattern]
  /// Blocks of addresses that are not global and may be dialled all the same.
  public let allowPrivate: [AddressBlock]
  public let phase: Phase
  public let most: Budget
  public let answer: Answer
  /// The credential without which no request is passed on.
  public let credential: String?

  public var endpoint: Endpoint { Endpoint(host: host, port: port) }

  /// - Parameter json: the value of `grants.<name>`.
  /// - Throws: `GrantProblem` for the first member that is unknown, missing or not as it must be.
  public init(name: String, json: JSONValue) throws(GrantProblem) {
    var members = try GrantMembers(json, at: "grants.\(name)")
    guard Self.isName(name) else {
      throw members.problem(nil, "is no name; write up to 63 lower-case letters, digits and hyphens")
    }
    self.name = name
    host = try members.host()
    port = try members.port("port", usual: nil)
    mode = try members.choice("mode", usual: nil)
    if case .address = host, mode == .opaque || mode == .inspect {
      throw members.problem("host", "is an address, and TLS names none; mode \(mode.rawValue) needs a host name")
    }
    listenPort = try members.port("listen", usual: mode == .http ? 80 : port)
    allow = try members.routes(mode)
    allowPrivate = try members.blocks()
    phase = try members.choice("phase", usual: .run)
    most = try members.budget()
    answer = try members.answer(mode) ?? .whole
    credential = try members.credential(mode)
    try members.refuseOthers()
  }

  private static func isName(_ name: String) -> Bool { isWord(name, "-") }

  fileprivate static func isWord(_ text: String, _ others: String) -> Bool {
    (1...63).contains(text.utf8.count)
      && text.utf8.allSatisfy {
        (0x30...0x39).contains($0) || (0x61...0x7a).contains($0) || others.utf8.contains($0)
      }
  }
}

/// What a document that narrows says of a grant: which routes and blocks stay, and how much of it at most. What it does not say
/// stays as it is.
public struct GrantNarrowing: Sendable, Equatable {
  public let allow: [RoutePattern]?
  public let allowPrivate: [AddressBlock]?
  public let answer: Grant.Answer?

  /// - Throws: `GrantProblem` for the first member that is unknown or not as it must be; where a grant leads is not among them.
  public init(name: String, json: JSONValue) throws(GrantProblem) {
    var members = try GrantMembers(json, at: "grants.\(name)")
    guard Grant.isWord(name, "-") else {
      throw members.problem(nil, "is no name; write up to 63 lower-case letters, digits and hyphens")
    }
    allow = members.rest["allow"] == nil ? nil : try members.routes(.http)
    allowPrivate = members.rest["allow_private"] == nil ? nil : try members.blocks()
    _ = try members.budget()
    answer = try members.answer(.http)
    try members.refuseOthers()
  }
}

/// The members of one grant, taken away as they are read.
private struct GrantMembers {
  let path: String
  var rest: [String: JSONValue]

  init(_ json: JSONValue, at path: String) throws(GrantProblem) {
    self.path = path
    guard let members = json.object else { throw GrantProblem(path: path, reason: "is no object") }
    rest = members
  }

  func problem(_ member: String?, _ reason: String) -> GrantProblem {
    GrantProblem(path: member.map { "\(path).\($0)" } ?? path, reason: reason)
  }

  mutating func host() throws(GrantProblem) -> Endpoint.Host {
    guard let text = try taken("host").string else { throw problem("host", "is no text") }
    guard !text.contains("*") else { throw problem("host", "has a wildcard; name each host") }
    do { return try Endpoint(authority: text.contains(":") ? "[\(text)]" : text, defaultPort: 1).host } catch {
      throw problem("host", "\(error)")
    }
  }

  mutating func port(_ member: String, usual: UInt16?) throws(GrantProblem) -> UInt16 {
    if let usual, rest[member] == nil { return usual }
    guard let number = try taken(member).integer, let port = UInt16(exactly: number), port > 0 else {
      throw problem(member, "is no whole number from 1 to 65535")
    }
    return port
  }

  mutating func choice<Choice: RawRepresentable<String> & CaseIterable>(
    _ member: String, usual: Choice?
  ) throws(GrantProblem) -> Choice {
    if let usual, rest[member] == nil { return usual }
    guard let choice = try taken(member).string.flatMap(Choice.init) else {
      throw problem(member, "is none of \(Choice.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    return choice
  }

  mutating func routes(_ mode: Grant.Mode) throws(GrantProblem) -> [RoutePattern] {
    guard mode.readsRequests else {
      guard rest["allow"] == nil else {
        throw problem("allow", "means nothing in mode \(mode.rawValue), which reads no requests")
      }
      return []
    }
    return try list("allow", taken("allow"), "is no route such as GET /simple/*, with ** or ?* only at its end") {
      RoutePattern($0)
    }
  }

  mutating func blocks() throws(GrantProblem) -> [AddressBlock] {
    guard let value = rest.removeValue(forKey: "allow_private") else { return [] }
    return try list("allow_private", value, "is no block such as 10.0.0.0/8") { AddressBlock($0) }
  }

  mutating func budget() throws(GrantProblem) -> Grant.Budget {
    var budget = Grant.Budget.usual
    guard let value = rest.removeValue(forKey: "most") else { return budget }
    var members = try GrantMembers(value, at: "\(path).most")
    try members.amount("sent", isSize: true, &budget.sentBytes)
    try members.amount("received", isSize: true, &budget.receivedBytes)
    try members.amount("requests", isSize: false, &budget.requests)
    try members.amount("connections", isSize: false, &budget.connections)
    try members.refuseOthers()
    return budget
  }

  mutating func answer(_ mode: Grant.Mode) throws(GrantProblem) -> Grant.Answer? {
    guard rest["answer"] != nil else { return nil }
    guard mode.readsRequests else {
      throw problem("answer", "means nothing in mode \(mode.rawValue), which reads no requests")
    }
    return try choice("answer", usual: nil)
  }

  mutating func credential(_ mode: Grant.Mode) throws(GrantProblem) -> String? {
    guard let value = rest.removeValue(forKey: "credential") else { return nil }
    // For mode tcp it is a login of the attempt's own, which the job is given: nobody could put it into bytes.
    guard mode.readsRequests || mode == .tcp else {
      throw problem("credential", "cannot be put into mode \(mode.rawValue), which reads no requests")
    }
    guard let name = value.string, Grant.isWord(name, "-_./") else {
      throw problem("credential", "is no name of up to 63 lower-case letters, digits and - _ . /")
    }
    return name
  }

  func refuseOthers() throws(GrantProblem) {
    if let unknown = rest.keys.min() { throw problem(unknown, "is unknown") }
  }

  private mutating func amount(_ member: String, isSize: Bool, _ amount: inout Int64) throws(GrantProblem) {
    guard let value = rest.removeValue(forKey: member) else { return }
    let size = isSize ? value.string.flatMap(ByteCount.init)?.bytes : nil
    guard let number = size ?? value.integer, (1...(1 << 50)).contains(number) else {
      throw problem(member, isSize ? "is no size such as 1MiB" : "is no positive whole number")
    }
    amount = number
  }

  private mutating func taken(_ member: String) throws(GrantProblem) -> JSONValue {
    guard let value = rest.removeValue(forKey: member) else { throw problem(member, "is missing") }
    return value
  }

  private func list<Entry>(
    _ member: String, _ value: JSONValue, _ reason: String, _ entry: (String) -> Entry?
  ) throws(GrantProblem) -> [Entry] {
    guard let values = value.array else { throw problem(member, "is no list") }
    var entries: [Entry] = []
    for (index, value) in values.enumerated() {
      guard let read = value.string.flatMap(entry) else { throw problem("\(member)[\(index)]", reason) }
      entries.append(read)
    }
    return entries
  }
}
