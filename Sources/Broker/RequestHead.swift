/// The head of an HTTP/1.1 request, read so that nobody can read it otherwise.
///
/// What the broker judges it passes on to a server that reads it again. Where two readers may differ about where a request ends or whom
/// it is for, the second half of one is a request that was never judged (request smuggling). So this takes what RFC 9112 lets a client
/// send, and of what it lets a server put up with, nothing: no bare line feeds, folded lines, space before a colon, second Host, and no
/// framing that is said twice.
public struct RequestHead: Equatable, Sendable {
  public typealias Framing = HeadSection.Framing

  public enum Reading: Equatable, Sendable {
    /// To be asked again with more.
    case incomplete
    /// The head, and how many bytes it had.
    case head(RequestHead, bytes: Int)
    /// Why, in words for whoever wrote the client.
    case refused(String)
  }

  public let method: String
  /// Where it goes, by the target and by Host, which must say the same.
  public let endpoint: Endpoint
  /// The path with its query, from `/` on; empty for CONNECT.
  public let target: String
  public let fields: [Field]
  public let framing: Framing

  /// Of the path without its query, in which no part is empty, `.`, `..` or hides a slash: what a pattern may be matched with.
  public var path: String { String(target.prefix { $0 != "?" }) }

  static let mostBytes = HeadSection.mostBytes

  /// - Parameters:
  ///   - bytes: what has come of the request so far, from its beginning.
  ///   - defaultPort: what is meant where neither the target nor Host names a port: 443 inside TLS, else 80.
  public static func read(_ bytes: [UInt8], defaultPort: UInt16 = 80) -> Reading {
    do throws(Refusal) {
      guard let (section, bytes) = try HeadSection.read(bytes) else { return .incomplete }
      return .head(try RequestHead(section, defaultPort: defaultPort), bytes: bytes)
    } catch {
      return .refused(error.reason)
    }
  }

  fileprivate typealias Refusal = HeadSection.Refusal
  public typealias Field = HeadSection.Field

  private init(_ section: HeadSection, defaultPort: UInt16) throws(Refusal) {
    let requestLine = section.start.split(separator: 32, omittingEmptySubsequences: false)
    guard requestLine.count == 3, !requestLine[0].isEmpty, requestLine[0].allSatisfy(HeadSection.isToken) else {
      throw Refusal("a request line that is not METHOD TARGET HTTP/1.1")
    }
    guard requestLine[2].elementsEqual("HTTP/1.1".utf8) else { throw Refusal("a version other than HTTP/1.1") }
    try Self.refuseHopByHop(section.fields)
    method = String(decoding: requestLine[0], as: UTF8.self)
    fields = section.fields
    framing = try section.framing()
    (endpoint, target) = try Self.place(
      method, String(decoding: requestLine[1], as: UTF8.self), section.values("host"), defaultPort)
    if method == "CONNECT", framing != .none { throw Refusal("a body behind CONNECT") }
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

  private static func place(
    _ method: String, _ target: String, _ hosts: [String], _ defaultPort: UInt16
  ) throws(Refusal) -> (Endpoint, String) {
    guard hosts.count == 1 else { throw Refusal(hosts.isEmpty ? "no Host" : "more than one Host") }
    let host = try endpoint(hosts[0], defaultPort: method == "CONNECT" ? nil : defaultPort, "Host")
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
    let goal = try endpoint(String(authority), defaultPort: defaultPort, "target")
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
  fileprivate static func checked(_ target: String) throws(Refusal) -> String {
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
}

extension RequestHead {
  /// Whether a path could stand in a request at all; what could not is matched by nothing.
  static func isPath(_ path: String) -> Bool {
    path.hasPrefix("/") && !path.contains("?") && (try? checked(path)) != nil
  }
}
