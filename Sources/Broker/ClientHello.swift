import Destinations

/// The first message of a TLS connection, read for the name that it asks for. The broker passes such a connection on without opening
/// it, so this name is all that says where the client believes it goes.
///
/// A parser of what a hostile job sends: it takes one record with one whole message and nothing else, because a message in pieces, two
/// names, or a second hello hidden in an extension (ECH) can mean one server to this reader and another one to the real one.
public struct ClientHello: Equatable, Sendable {
  /// In lower case.
  public let serverName: String

  public enum Reading: Equatable, Sendable {
    /// The beginning of a record; to be asked again with more.
    case incomplete
    case hello(ClientHello)
    case refused(String)
  }

  /// RFC 8446, 5.1: a record's plaintext is no longer.
  static let mostBytes = 5 + 16_384

  /// - Parameter bytes: what has come of the connection so far, from its beginning.
  public static func read(_ bytes: [UInt8]) -> Reading {
    do throws(Refusal) { return try parse(bytes).map { .hello($0) } ?? .incomplete } catch {
      return .refused(error.reason)
    }
  }

  private struct Refusal: Error {
    let reason: String
  }

  /// Nil where more must come first.
  private static func parse(_ bytes: [UInt8]) throws(Refusal) -> ClientHello? {
    guard let type = bytes.first else { return nil }
    guard type == 22 else { throw Refusal(reason: "is no TLS handshake") }
    guard bytes.count >= 5 else { return nil }
    // The record's version is frozen at TLS 1.0 to 1.2 for compatibility, and means nothing.
    guard bytes[1] == 3, bytes[2] <= 3 else { throw Refusal(reason: "is no TLS handshake") }
    let length = Int(bytes[3]) << 8 | Int(bytes[4])
    guard (4...(mostBytes - 5)).contains(length) else { throw Refusal(reason: "has a record of \(length) bytes") }
    guard bytes.count >= 6 else { return nil }
    guard bytes[5] == 1 else { throw Refusal(reason: "does not begin with a ClientHello") }
    guard bytes.count >= 5 + length else { return nil }
    var record = Cursor(bytes[5..<(5 + length)])
    _ = try record.number(1)
    let body = try record.take(record.number(3), "a ClientHello in pieces")
    guard record.isEmpty else { throw Refusal(reason: "has more than a ClientHello in its first record") }
    return try hello(Cursor(body))
  }

  private static func hello(_ body: Cursor) throws(Refusal) -> ClientHello {
    var body = body
    // Version and random.
    _ = try body.take(34)
    _ = try body.take(body.number(1))
    _ = try body.take(body.number(2))
    _ = try body.take(body.number(1))
    guard !body.isEmpty else { throw Refusal(reason: "names no server (no SNI)") }
    var extensions = Cursor(try body.take(body.number(2)))
    guard body.isEmpty else { throw Refusal(reason: "has bytes behind its extensions") }
    var seen: Set<Int> = []
    var name: String?
    while !extensions.isEmpty {
      let type = try extensions.number(2)
      let content = try extensions.take(extensions.number(2))
      guard seen.insert(type).inserted else { throw Refusal(reason: "has extension \(type) twice") }
      switch type {
      case 0: name = try serverName(Cursor(content))
      // encrypted_client_hello, and what drafts called it.
      case 0xfe0d, 0xfe0a, 0xfe09, 0xfe08, 0xffce: throw Refusal(reason: "hides another name (ECH)")
      default: break
      }
    }
    guard let name else { throw Refusal(reason: "names no server (no SNI)") }
    return ClientHello(serverName: name)
  }

  private static func serverName(_ content: Cursor) throws(Refusal) -> String {
    var content = content
    var list = Cursor(try content.take(content.number(2)))
    guard content.isEmpty, try list.number(1) == 0 else {
      throw Refusal(reason: "names a server by other than a host name")
    }
    let bytes = Array(try list.take(list.number(2)))
    guard list.isEmpty else { throw Refusal(reason: "names more than one server") }
    guard let host = try? Endpoint.host(bytes), case .name(let name) = host else {
      throw Refusal(reason: "names a server by what is no host name")
    }
    return name
  }

  private struct Cursor {
    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) {
      rest = bytes
    }

    var isEmpty: Bool { rest.isEmpty }

    mutating func number(_ bytes: Int) throws(Refusal) -> Int {
      try take(bytes).reduce(0) { $0 << 8 | Int($1) }
    }

    mutating func take(_ count: Int, _ what: String = "lengths that contradict each other") throws(Refusal)
      -> ArraySlice<UInt8>
    {
      guard rest.count >= count else { throw Refusal(reason: "has \(what)") }
      defer { rest = rest.dropFirst(count) }
      return rest.prefix(count)
    }
  }
}
