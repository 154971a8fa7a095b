import Destinations

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
  /// Bytes; the longest of IANA's registry of methods, UPDATEREDIRECTREF, has 17.
  static let longestMethod = 32

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
    guard requestLine[0].count <= Self.longestMethod else {
      throw Refusal("a method of more than \(Self.longestMethod) bytes")
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
    if target.hasPrefix("/") { return (host, try Self.target(target)) }
    guard target.lowercased().hasPrefix("http://") else {
      throw Refusal("a target that is neither a path nor an http URL")
    }
    let rest = target.dropFirst("http://".count)
    let authority = rest.prefix { $0 != "/" && $0 != "?" }
    let goal = try endpoint(String(authority), defaultPort: defaultPort, "target")
    guard goal == host else { throw Refusal("a Host that is not the target's") }
    let path = rest.dropFirst(authority.count)
    return (goal, try Self.target(path.hasPrefix("/") ? String(path) : "/" + path))
  }

  private static func target(_ text: String) throws(Refusal) -> String {
    do { return try RequestTarget.checked(text) } catch { throw Refusal(error.description) }
  }

  private static func endpoint(_ text: String, defaultPort: UInt16?, _ what: String) throws(Refusal) -> Endpoint {
    do { return try Endpoint(authority: text, defaultPort: defaultPort) } catch {
      throw Refusal("a \(what) that \(error)")
    }
  }
}
