/// The head of an HTTP/1.1 request, read so that nobody can read it otherwise.
///
/// What the broker judges it passes on to a server that reads it again. Where two readers may differ about where a request ends or whom
/// it is for, the second half of one is a request that was never judged (request smuggling). So this takes what RFC 9112 lets a client
/// send, and of what it lets a server put up with, nothing: no bare line feeds, folded lines, space before a colon, second Host, and no
/// framing that is said twice.
public struct RequestHead: Equatable, Sendable {
  /// How long the body is.
  public enum Framing: Equatable, Sendable {
    case none
    case length(Int)
    case chunked
  }

  public enum Reading: Equatable, Sendable {
    /// To be asked again with more.
    case incomplete
    /// The head, and how many bytes it had.
    case head(RequestHead, bytes: Int)
    /// Why, in words for whoever wrote the client.
    case refused(String)
  }

  public struct Field: Equatable, Sendable {
    /// As it was written; names are compared in lower case.
    public let name: String
    public let value: String
  }

  public let method: String
  /// Where it goes, by the target and by Host, which must say the same. The port is 80 where neither names one.
  public let endpoint: Endpoint
  /// The path with its query, from `/` on; empty for CONNECT.
  public let target: String
  public let fields: [Field]
  public let framing: Framing

  /// Of the path without its query, in which no part is empty, `.`, `..` or hides a slash: what a pattern may be matched with.
  public var path: String { String(target.prefix { $0 != "?" }) }

  static let mostBytes = 16_384
  static let mostFields = 100

  /// - Parameter bytes: what has come of the request so far, from its beginning.
  public static func read(_ bytes: [UInt8]) -> Reading {
    let window = bytes.prefix(mostBytes)
    guard let end = endOfHead(window) else {
      if let problem = problem(inBeginning: window) { return .refused(problem) }
      return bytes.count >= mostBytes ? .refused("a head of more than \(mostBytes) bytes") : .incomplete
    }
    do throws(Refusal) {
      return .head(try RequestHead(lines: window[..<(end - 4)]), bytes: end)
    } catch {
      return .refused(error.reason)
    }
  }

  private struct Refusal: Error {
    let reason: String

    init(_ reason: String) {
      self.reason = reason
    }
  }

  /// Behind the empty line.
  private static func endOfHead(_ bytes: ArraySlice<UInt8>) -> Int? {
    guard bytes.count >= 4 else { return nil }
    return (bytes.startIndex...(bytes.endIndex - 4)).first {
      bytes[$0] == 13 && bytes[$0 + 1] == 10 && bytes[$0 + 2] == 13 && bytes[$0 + 3] == 10
    }
    .map { $0 + 4 }
  }

  /// What no more bytes can mend, so that a client need not wait for the cap to be told.
  private static func problem(inBeginning bytes: ArraySlice<UInt8>) -> String? {
    for index in bytes.indices where bytes[index] == 10 {
      guard index > bytes.startIndex, bytes[index - 1] == 13 else { return "a line that ends in a bare line feed" }
    }
    return bytes.contains(0) ? "a NUL byte" : nil
  }

  private init(lines bytes: ArraySlice<UInt8>) throws(Refusal) {
    var lines: [ArraySlice<UInt8>] = []
    var start = bytes.startIndex
    for index in bytes.indices {
      switch bytes[index] {
      case 10:
        guard index > start, bytes[index - 1] == 13 else { throw Refusal("a line that ends in a bare line feed") }
        lines.append(bytes[start..<(index - 1)])
        start = index + 1
      case 13:
        guard index + 1 < bytes.endIndex, bytes[index + 1] == 10 else {
          throw Refusal("a carriage return inside a line")
        }
      case 0...8, 11...31, 127: throw Refusal("a control character")
      case 128...: throw Refusal("a byte beyond ASCII")
      default: break
      }
    }
    lines.append(bytes[start...])
    let requestLine = lines.removeFirst().split(separator: 32, omittingEmptySubsequences: false)
    guard requestLine.count == 3, !requestLine[0].isEmpty, requestLine[0].allSatisfy(Self.isToken) else {
      throw Refusal("a request line that is not METHOD TARGET HTTP/1.1")
    }
    guard requestLine[2].elementsEqual("HTTP/1.1".utf8) else { throw Refusal("a version other than HTTP/1.1") }
    guard lines.count <= Self.mostFields else { throw Refusal("more than \(Self.mostFields) fields") }
    var found: [Field] = []
    for line in lines { found.append(try Self.field(line)) }
    try Self.refuseHopByHop(found)
    method = String(decoding: requestLine[0], as: UTF8.self)
    fields = found
    framing = try Self.framing(found)
    (endpoint, target) = try Self.place(method, String(decoding: requestLine[1], as: UTF8.self), found)
    if method == "CONNECT", framing != .none { throw Refusal("a body behind CONNECT") }
  }

  private static func field(_ line: ArraySlice<UInt8>) throws(Refusal) -> Field {
    guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { throw Refusal("a field without a colon") }
    let name = line[..<colon]
    // A space first continues the line before, to some; one before the colon is part of the name, to some.
    guard !name.isEmpty, name.allSatisfy(isToken) else { throw Refusal("a field whose name is no token") }
    let value = line[(colon + 1)...].drop { $0 == 32 || $0 == 9 }.reversed().drop { $0 == 32 || $0 == 9 }.reversed()
    return Field(name: String(decoding: name, as: UTF8.self), value: String(decoding: value, as: UTF8.self))
  }

  /// Fields by which the next hop would be told to read the request, or what follows it, otherwise than it was judged.
  private static let overriding: Set = [
    "upgrade", "http2-settings", "x-original-url", "x-rewrite-url", "x-http-method", "x-http-method-override",
    "x-method-override", "x-forwarded-host", "forwarded",
  ]

  private static func refuseHopByHop(_ fields: [Field]) throws(Refusal) {
    for field in fields {
      let name = field.name.lowercased()
      // `Content_Length` is a field of its own here, and Content-Length to some gateways.
      guard !name.contains("_") else { throw Refusal("a field with an underscore in its name") }
      guard !overriding.contains(name) else { throw Refusal("the field \(name), which changes what a request means") }
      // What Connection names is taken away by the next hop: Host and Content-Length, too.
      guard name != "connection" || ["close", "keep-alive"].contains(field.value.lowercased()) else {
        throw Refusal("a Connection other than close or keep-alive")
      }
    }
  }

  private static func values(_ name: String, _ fields: [Field]) -> [String] {
    fields.filter { $0.name.lowercased() == name }.map(\.value)
  }

  private static func framing(_ fields: [Field]) throws(Refusal) -> Framing {
    let (lengths, codings) = (values("content-length", fields), values("transfer-encoding", fields))
    guard lengths.count <= 1, codings.count <= 1, lengths.isEmpty || codings.isEmpty else {
      throw Refusal("a length that is said twice")
    }
    if let coding = codings.first {
      guard coding.lowercased() == "chunked" else { throw Refusal("a transfer coding other than chunked") }
      return .chunked
    }
    guard let text = lengths.first else { return .none }
    guard (1...15).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
      let length = Int(text)
    else {
      throw Refusal("a Content-Length that is no number")
    }
    return .length(length)
  }

  private static func place(
    _ method: String, _ target: String, _ fields: [Field]
  ) throws(Refusal) -> (Endpoint, String) {
    let hosts = values("host", fields)
    guard hosts.count == 1 else { throw Refusal(hosts.isEmpty ? "no Host" : "more than one Host") }
    let host = try endpoint(hosts[0], defaultPort: method == "CONNECT" ? nil : 80, "Host")
    if method == "CONNECT" {
      let goal = try endpoint(target, defaultPort: nil, "target")
      guard goal == host else { throw Refusal("a Host that is not the target's") }
      return (goal, "")
    }
    if target.hasPrefix("/") { return (host, try checked(target)) }
    guard target.lowercased().hasPrefix("http://") else {
      throw Refusal("a target that is neither a path nor an http URL")
    }
    let rest = target.dropFirst("http://".count)
    let authority = rest.prefix { $0 != "/" && $0 != "?" }
    let goal = try endpoint(String(authority), defaultPort: 80, "target")
    guard goal == host else { throw Refusal("a Host that is not the target's") }
    let path = rest.dropFirst(authority.count)
    return (goal, try checked(path.hasPrefix("/") ? String(path) : "/" + path))
  }

  private static func endpoint(_ text: String, defaultPort: UInt16?, _ what: String) throws(Refusal) -> Endpoint {
    do { return try Endpoint(authority: text, defaultPort: defaultPort) } catch {
      throw Refusal("a \(what) that \(error)")
    }
  }

  /// A path that means the same to whoever decodes or tidies it first.
  private static func checked(_ target: String) throws(Refusal) -> String {
    let bytes = Array(target.utf8)
    var decoded: [UInt8] = []
    for (index, byte) in bytes.enumerated() {
      // RFC 3986's characters; a fragment is not sent.
      let plain = "-._~!$&'()*+,;=:@/?%".utf8
      let isAllowed =
        (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte)
        || plain.contains(byte)
      guard isAllowed else { throw Refusal("a target with a character that must be encoded") }
      guard byte == UInt8(ascii: "%") else {
        // The digits behind a percent sign are decoded with it.
        if !bytes[max(0, index - 2)..<index].contains(UInt8(ascii: "%")) { decoded.append(byte) }
        continue
      }
      let digits = bytes[min(index + 1, bytes.count)..<min(index + 3, bytes.count)]
      guard digits.count == 2, let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 16) else {
        throw Refusal("a target with a percent sign that encodes nothing")
      }
      // Slash, backslash, dot, semicolon, NUL and other control characters, percent: those that change what a path means when
      // decoded.
      guard value > 31, value != 127, !"/\\.%;".utf8.contains(value) else {
        throw Refusal("a target that hides a slash, a dot, a semicolon, a percent sign or a control character")
      }
      decoded.append(value)
    }
    guard String(validating: decoded, as: UTF8.self) != nil else {
      throw Refusal("a target that encodes what is no UTF-8")
    }
    let path = target.prefix { $0 != "?" }
    let parts = path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
    // Some servers take what follows a semicolon away before they look at the part: `..;x` is `..` to them.
    let names = parts.map { $0.prefix { $0 != ";" } }
    guard names.dropLast().allSatisfy({ !$0.isEmpty }), !names.contains("."), !names.contains(".."),
      names.last?.isEmpty != true || parts.last?.isEmpty == true
    else { throw Refusal("a path with an empty part, or one of dots") }
    return target
  }

  private static func isToken(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte)
      || "!#$%&'*+-.^_`|~".utf8.contains(byte)
  }
}
