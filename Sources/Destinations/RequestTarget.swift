/// What of a request says which thing on a server is meant: a path, and perhaps a query.
package enum RequestTarget {
  /// Why a text is no target that two servers read alike.
  package struct Problem: Error, Equatable, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
  }

  /// A path that means the same to whoever decodes or tidies it first.
  package static func checked(_ target: String) throws(Problem) -> String {
    let bytes = Array(target.utf8)
    var decoded: [UInt8] = []
    let query = bytes.firstIndex(of: UInt8(ascii: "?")) ?? bytes.count
    for (index, byte) in bytes.enumerated() {
      // RFC 3986's characters; a fragment is not sent.
      let plain = "-._~!$&'()*+,;=:@/?%".utf8
      let isAllowed =
        (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte)
        || plain.contains(byte)
      guard isAllowed else { throw Problem("a target with a character that must be encoded") }
      guard byte == UInt8(ascii: "%") else {
        // The digits behind a percent sign are decoded with it.
        if !bytes[max(0, index - 2)..<index].contains(UInt8(ascii: "%")) { decoded.append(byte) }
        continue
      }
      let digits = bytes[min(index + 1, bytes.count)..<min(index + 3, bytes.count)]
      guard digits.count == 2, let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 16) else {
        throw Problem("a target with a percent sign that encodes nothing")
      }
      // Slash, backslash, dot, semicolon, NUL and other control characters, percent: those that change what a path means when
      // decoded. In a query only the control characters do.
      guard value > 31, value != 127, index > query || !"/\\.%;".utf8.contains(value) else {
        throw Problem("a target that hides a slash, a dot, a semicolon, a percent sign or a control character")
      }
      decoded.append(value)
    }
    guard String(validating: decoded, as: UTF8.self) != nil else {
      throw Problem("a target that encodes what is no UTF-8")
    }
    let path = target.prefix { $0 != "?" }
    let parts = path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
    // Some servers take what follows a semicolon away before they look at the part: `..;x` is `..` to them.
    let names = parts.map { $0.prefix { $0 != ";" } }
    guard names.dropLast().allSatisfy({ !$0.isEmpty }), !names.contains("."), !names.contains(".."),
      names.last?.isEmpty != true || parts.last?.isEmpty == true
    else { throw Problem("a path with an empty part, or one of dots") }
    return target
  }

  /// Whether a path could stand in a request at all; what could not is matched by nothing.
  static func isPath(_ path: String) -> Bool {
    path.hasPrefix("/") && !path.contains("?") && (try? checked(path)) != nil
  }
}
