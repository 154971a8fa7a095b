@testable import Sandbox

/// Names of files as a job made them, and tenants as directories.
enum EscapedNames: Fuzzer {
  static var seeds: [[UInt8]] {
    [
      Array("a/b.txt".utf8), Array("caf\u{E9} \u{1F600}".utf8), Array("\\x41\u{1B}[31m".utf8), [0xFF, 0x41, 0xC3],
      Array("\u{202E}txt.exe\u{2066}\u{200B}\u{FEFF}\u{AD}\u{FE0F}\u{E0041}".utf8), [0xED, 0xA0, 0x80],
      [0xF4, 0x90, 0x80, 0x80], [0xC0, 0xAF], Array("..".utf8), Array("-rf".utf8), [],
    ]
  }

  static func run(_ bytes: [UInt8]) {
    let shown = EscapedName.show(bytes)
    expect(unescaped(Array(shown.utf8)) == bytes, "a name can be told from its spelling: \(shown)")
    for scalar in shown.unicodeScalars {
      let properties = scalar.properties
      expect(
        ![.control, .lineSeparator, .paragraphSeparator].contains(properties.generalCategory),
        "no control character is shown: \(scalar.value)")
      expect(!properties.isBidiControl, "nothing reorders text: \(scalar.value)")
      expect(!properties.isDefaultIgnorableCodePoint, "nothing is hidden: \(scalar.value)")
    }

    let plain = bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map { Array($0) }
    let isPath = plain.allSatisfy { !$0.isEmpty && $0 != [0x2E] && $0 != [0x2E, 0x2E] && !$0.contains(0) }
    expect(EscapedName.components(of: shown) == (isPath ? plain : nil), "a published file is found again: \(shown)")
    if let forged = EscapedName.components(of: String(decoding: bytes, as: UTF8.self)) {
      let places: [[UInt8]] = [[], [0x2E], [0x2E, 0x2E]]
      expect(
        forged.allSatisfy { !places.contains($0) && !$0.contains(0) && !$0.contains(0x2F) },
        "no name leads out of where it is put")
    }

    guard let tenant = String(validating: bytes, as: UTF8.self) else { return }
    let component = EscapedName.component(tenant)
    expect(component.isEmpty == tenant.isEmpty, "only no name has no directory")
    expect(
      component.utf8.allSatisfy { isPlain($0) || $0 == UInt8(ascii: "%") }
        && ![UInt8(ascii: "."), UInt8(ascii: "-")].contains(component.utf8.first),
      "a tenant's directory is one plain component: \(component)")
    expect(unquoted(component) == bytes, "two tenants never share a directory: \(component)")
  }

  private static func isPlain(_ byte: UInt8) -> Bool {
    Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-".utf8).contains(byte)
  }

  /// Undoes `\xNN`.
  static func unescaped(_ text: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    var rest = text[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "\\") else {
        bytes.append(byte)
        continue
      }
      expect(rest.popFirst() == UInt8(ascii: "x"), "behind a backslash stands x")
      bytes.append(number(rest.prefix(2)))
      rest = rest.dropFirst(2)
    }
    return bytes
  }

  /// Undoes `%NN`.
  private static func unquoted(_ text: String) -> [UInt8] {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      bytes.append(number(rest.prefix(2)))
      rest = rest.dropFirst(2)
    }
    return bytes
  }

  private static func number(_ digits: ArraySlice<UInt8>) -> UInt8 {
    guard digits.count == 2, let number = UInt8(String(decoding: digits, as: UTF8.self), radix: 16) else {
      fatalError("two hexadecimal digits follow")
    }
    return number
  }
}
