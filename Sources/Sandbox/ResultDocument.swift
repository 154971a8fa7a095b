import Jobs

/// The JSON a job wrote to `CORDON_RESULT`, read as hostile text by RFC 8259 and nothing beyond it.
///
/// The common decoder takes trailing commas, other encodings, and the last of two members of one name: what one
/// reader takes and another refuses, or reads differently, is no evidence. Refused as well is what the database
/// cannot hold (U+0000, a number beyond a double), since one such character would make the completion of the whole
/// attempt fail there; and nesting beyond a bound, because this parser and every later reader recurse.
struct ResultDocument {
  /// Deepest nesting of arrays and objects.
  static let maximumDepth = 64

  struct Invalid: Error, Equatable {
    let why: String
  }

  private let bytes: [UInt8]
  private var offset = 0
  private var depth = 0

  static func parse(_ bytes: [UInt8]) throws(Invalid) -> JSONValue {
    guard String(validating: bytes, as: UTF8.self) != nil else { throw Invalid(why: "it is no UTF-8 text") }
    var document = ResultDocument(bytes: bytes)
    let value = try document.value()
    document.skipSpace()
    guard document.peek == nil else { throw document.malformed("something follows the value") }
    return value
  }

  private init(bytes: [UInt8]) { self.bytes = bytes }

  private var peek: UInt8? { offset < bytes.count ? bytes[offset] : nil }

  private func malformed(_ why: String) -> Invalid { Invalid(why: "\(why) at byte \(offset)") }

  private mutating func skipSpace() {
    while let byte = peek, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { offset += 1 }
  }

  /// Skips white space; then takes the character if it is next.
  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    skipSpace()
    guard peek == UInt8(ascii: character) else { return false }
    offset += 1
    return true
  }

  private mutating func value() throws(Invalid) -> JSONValue {
    skipSpace()
    guard let first = peek else { throw malformed("no value") }
    switch first {
    case UInt8(ascii: "{"): return try nested { document throws(Invalid) in try document.object() }
    case UInt8(ascii: "["): return try nested { document throws(Invalid) in try document.array() }
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
    default:
      for (word, value) in [("true", JSONValue.bool(true)), ("false", .bool(false)), ("null", .null)]
      where bytes[offset...].starts(with: word.utf8) {
        offset += word.utf8.count
        return value
      }
      throw malformed("no value")
    }
  }

  private mutating func nested(
    _ body: (inout ResultDocument) throws(Invalid) -> JSONValue
  ) throws(Invalid) -> JSONValue {
    depth += 1
    guard depth <= Self.maximumDepth else { throw Invalid(why: "it nests deeper than \(Self.maximumDepth)") }
    offset += 1
    let value = try body(&self)
    depth -= 1
    return value
  }

  private mutating func array() throws(Invalid) -> JSONValue {
    var elements: [JSONValue] = []
    if take("]") { return .array(elements) }
    repeat { elements.append(try value()) } while take(",")
    guard take("]") else { throw malformed("no ',' or ']'") }
    return .array(elements)
  }

  private mutating func object() throws(Invalid) -> JSONValue {
    var members: [String: JSONValue] = [:]
    // Text compares by canonical equivalence here, JSON and PostgreSQL by code points.
    var names: Set<[UInt8]> = []
    if take("}") { return .object(members) }
    repeat {
      skipSpace()
      let name = try string()
      guard take(":") else { throw malformed("no ':'") }
      guard names.insert(Array(name.utf8)).inserted else { throw malformed("a name occurs twice") }
      guard members.updateValue(try value(), forKey: name) == nil else {
        throw malformed("two names differ only in how their characters are composed, which the record cannot keep,")
      }
    } while take(",")
    guard take("}") else { throw malformed("no ',' or '}'") }
    return .object(members)
  }

  private mutating func number() throws(Invalid) -> JSONValue {
    let start = offset
    if peek == UInt8(ascii: "-") { offset += 1 }
    let zero = peek == UInt8(ascii: "0")
    let whole = try digits()
    guard !zero || whole == 1 else { throw malformed("a number starts with 0") }
    if peek == UInt8(ascii: ".") {
      offset += 1
      _ = try digits()
    }
    if peek == UInt8(ascii: "e") || peek == UInt8(ascii: "E") {
      offset += 1
      if peek == UInt8(ascii: "+") || peek == UInt8(ascii: "-") { offset += 1 }
      _ = try digits()
    }
    let text = String(decoding: bytes[start..<offset], as: UTF8.self)
    guard let number = JSONValue.number(spelled: text) else {
      throw malformed("a number is too large or has more digits than can be kept")
    }
    let mantissa = text.utf8.prefix { $0 != UInt8(ascii: "e") && $0 != UInt8(ascii: "E") }
    guard number.double != 0 || !mantissa.contains(where: { (UInt8(ascii: "1")...UInt8(ascii: "9")).contains($0) })
    else { throw malformed("a number is too close to zero to be kept") }
    return number
  }

  /// Takes one or more digits and says how many.
  private mutating func digits() throws(Invalid) -> Int {
    let start = offset
    while let byte = peek, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { offset += 1 }
    guard offset > start else { throw malformed("a digit is missing") }
    return offset - start
  }

  private mutating func string() throws(Invalid) -> String {
    guard peek == UInt8(ascii: "\"") else { throw malformed("no string") }
    offset += 1
    var text: [UInt8] = []
    while let byte = peek {
      offset += 1
      switch byte {
      case UInt8(ascii: "\""): return String(decoding: text, as: UTF8.self)
      case UInt8(ascii: "\\"): text += Array(String(try escape()).utf8)
      case 0x00..<0x20: throw malformed("a control character in a string")
      default: text.append(byte)
      }
    }
    throw malformed("a string does not end")
  }

  /// What stands behind a backslash.
  private mutating func escape() throws(Invalid) -> Unicode.Scalar {
    guard let byte = peek else { throw malformed("a string does not end") }
    offset += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{C}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"): break
    default: throw malformed("an unknown escape")
    }
    let unit = try codeUnit()
    guard unit != 0 else { throw malformed("U+0000, which the database cannot keep,") }
    if let scalar = Unicode.Scalar(unit) { return scalar }
    // A surrogate: only the first half of a pair may stand here, and its other half must follow.
    guard (0xD800...0xDBFF).contains(unit), bytes[offset...].starts(with: "\\u".utf8) else {
      throw malformed("half a surrogate pair")
    }
    offset += 2
    let second = try codeUnit()
    guard (0xDC00...0xDFFF).contains(second),
      let scalar = Unicode.Scalar(0x10000 + (UInt32(unit) - 0xD800) << 10 + UInt32(second) - 0xDC00)
    else { throw malformed("half a surrogate pair") }
    return scalar
  }

  private mutating func codeUnit() throws(Invalid) -> UInt16 {
    let digits = bytes[offset...].prefix(4)
    guard digits.count == 4, digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
      let unit = UInt16(String(decoding: digits, as: UTF8.self), radix: 16)
    else { throw malformed("no four hexadecimal digits") }
    offset += 4
    return unit
  }
}
