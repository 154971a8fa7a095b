/// The body of an introspection request (RFC 7662, section 2.1): a form with one `token`.
struct IntrospectionForm: Equatable {
  let token: String

  /// A token of ours, each of its bytes encoded, and the names around it.
  static let mostBytes = 32_768

  /// Nil for what is no such form. A token that stands twice is none: whoever reads the other one would judge another token.
  init?(_ body: [UInt8], contentType: String?) {
    let type = contentType?.split(separator: ";").first?.lowercased()
    guard type?.filter({ $0 != " " }) == "application/x-www-form-urlencoded", body.count <= Self.mostBytes else {
      return nil
    }
    var found: String?
    for pair in body.split(separator: UInt8(ascii: "&")) {
      let halves = pair.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
      guard let name = Self.decode(halves[0]), let value = Self.decode(halves.count > 1 ? halves[1] : []) else {
        return nil
      }
      guard name == "token" else { continue }
      guard found == nil, !value.isEmpty else { return nil }
      found = value
    }
    guard let found else { return nil }
    token = found
  }

  private static func decode(_ bytes: ArraySlice<UInt8>) -> String? {
    var decoded: [UInt8] = []
    var rest = bytes
    while let byte = rest.popFirst() {
      switch byte {
      case UInt8(ascii: "+"): decoded.append(32)
      case UInt8(ascii: "%"):
        guard let high = rest.popFirst().flatMap(digit), let low = rest.popFirst().flatMap(digit) else { return nil }
        decoded.append(high << 4 | low)
      default: decoded.append(byte)
      }
    }
    return String(validating: decoded, as: UTF8.self)
  }

  private static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x41 + 10
    case 0x61...0x66: byte - 0x61 + 10
    default: nil
    }
  }
}
