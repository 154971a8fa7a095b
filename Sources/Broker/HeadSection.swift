/// The lines of an HTTP/1.1 head, of a request or of a response: a start line and fields.
///
/// Both sides are read by the same strict rules. A server's head is passed to a job's client, which reads it again, and the next
/// response begins where this reader says that this one ends.
public struct HeadSection: Equatable, Sendable {
  public struct Field: Equatable, Sendable {
    /// As it was written; names are compared in lower case.
    public let name: String
    public let value: String

    public init(name: String, value: String) {
      self.name = name
      self.value = value
    }
  }

  /// How long the body is, by the fields alone.
  public enum Framing: Equatable, Sendable {
    case none
    case length(Int)
    case chunked
  }

  struct Refusal: Error {
    let reason: String

    init(_ reason: String) {
      self.reason = reason
    }
  }

  let start: ArraySlice<UInt8>
  let fields: [Field]

  static let mostBytes = 16_384
  static let mostFields = 100

  /// Nil where more must come first; else the head and how many bytes it had.
  static func read(_ bytes: [UInt8]) throws(Refusal) -> (HeadSection, bytes: Int)? {
    let window = bytes.prefix(mostBytes)
    guard let end = endOfHead(window) else {
      if let problem = problem(inBeginning: window) { throw Refusal(problem) }
      guard bytes.count < mostBytes else { throw Refusal("a head of more than \(mostBytes) bytes") }
      return nil
    }
    return (try HeadSection(lines: window[..<(end - 4)]), end)
  }

  func values(_ name: String) -> [String] {
    fields.filter { $0.name.lowercased() == name }.map(\.value)
  }

  func framing() throws(Refusal) -> Framing {
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"))
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

  static func isToken(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte)
      || "!#$%&'*+-.^_`|~".utf8.contains(byte)
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
    var beginning = bytes.startIndex
    for index in bytes.indices {
      switch bytes[index] {
      case 10:
        guard index > beginning, bytes[index - 1] == 13 else { throw Refusal("a line that ends in a bare line feed") }
        lines.append(bytes[beginning..<(index - 1)])
        beginning = index + 1
      case 13:
        guard index + 1 < bytes.endIndex, bytes[index + 1] == 10 else {
          throw Refusal("a carriage return inside a line")
        }
      case 0...8, 11...31, 127: throw Refusal("a control character")
      case 128...: throw Refusal("a byte beyond ASCII")
      default: break
      }
    }
    lines.append(bytes[beginning...])
    start = lines.removeFirst()
    guard lines.count <= Self.mostFields else { throw Refusal("more than \(Self.mostFields) fields") }
    var found: [Field] = []
    for line in lines { found.append(try Self.field(line)) }
    fields = found
  }

  private static func field(_ line: ArraySlice<UInt8>) throws(Refusal) -> Field {
    guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { throw Refusal("a field without a colon") }
    let name = line[..<colon]
    // A space first continues the line before, to some; one before the colon is part of the name, to some.
    guard !name.isEmpty, name.allSatisfy(isToken) else { throw Refusal("a field whose name is no token") }
    let value = line[(colon + 1)...].drop { $0 == 32 || $0 == 9 }.reversed().drop { $0 == 32 || $0 == 9 }.reversed()
    return Field(name: String(decoding: name, as: UTF8.self), value: String(decoding: value, as: UTF8.self))
  }
}
