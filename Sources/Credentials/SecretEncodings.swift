/// The spellings in which a secret comes back out of servers and programs.
///
/// What is not covered: a secret that is compressed, encrypted, reversed, broken over lines, spelled in a mixture of cases,
/// or encoded twice. Nor the up to four bits at each end that Base64 mixes with neighbouring bytes.
enum SecretEncodings {
  /// Each once, none shorter than a secret may be.
  static func all(of secret: [UInt8]) -> [[UInt8]] {
    var found: Set<[UInt8]> = []
    let spellings =
      [secret] + base64(secret) + [Hexadecimal.bytes(secret), Hexadecimal.bytes(secret, upper: true)] + percent(secret)
      + json(secret) + html(secret)
    return spellings.filter { $0.count >= Secret.leastBytes && found.insert($0).inserted }
  }

  /// Behind none, one or two bytes of a group of three, what of the text depends on the secret alone; and once more with
  /// the group that ends it, where nothing follows.
  private static func base64(_ secret: [UInt8]) -> [[UInt8]] {
    var spellings: [[UInt8]] = []
    for urlSafe in [false, true] {
      for before in 0...2 {
        let bytes = Array(repeating: UInt8(0), count: before) + secret
        let unpadded = Base64.encode(bytes, urlSafe: urlSafe, padded: false)
        // The characters that hold bits of the bytes before, and the one that holds bits of the bytes behind.
        let first = (before * 8 + 5) / 6
        let whole = bytes.count * 8 / 6
        spellings.append(Array(unpadded[first..<whole]))
        spellings.append(Array(unpadded[first...]))
        spellings.append(Array(Base64.encode(bytes, urlSafe: urlSafe)[first...]))
      }
    }
    return spellings
  }

  private static func percent(_ secret: [UInt8]) -> [[UInt8]] {
    // JavaScript's encodeURIComponent and encodeURI, and paths.
    let component = Set("!'()*".utf8)
    let path = Set("!$&'()*+,;=:@/".utf8)
    var spellings: [[UInt8]] = []
    for upper in [true, false] {
      let strict = PercentEncoding.encode(secret, upper: upper)
      spellings.append(strict)
      spellings.append(PercentEncoding.encode(secret, upper: upper) { _ in false })
      spellings.append(
        PercentEncoding.encode(secret, upper: upper) { PercentEncoding.isUnreserved($0) || component.contains($0) })
      spellings.append(PercentEncoding.encode(secret, upper: upper) { PercentEncoding.isUnreserved($0) || $0 == 47 })
      spellings.append(
        PercentEncoding.encode(secret, upper: upper) { PercentEncoding.isUnreserved($0) || path.contains($0) })
      // Forms: a space is a plus.
      spellings.append(
        PercentEncoding.encode(secret, upper: upper) { PercentEncoding.isUnreserved($0) || $0 == 32 }.map {
          $0 == 32 ? 43 : $0
        })
    }
    return spellings
  }

  /// What encoders of JSON differ in: whether they escape a slash, what HTML means something by, and what is beyond ASCII.
  private static func json(_ secret: [UInt8]) -> [[UInt8]] {
    guard let text = String(validating: secret, as: UTF8.self) else { return [] }
    var spellings: [[UInt8]] = []
    for upper in [false, true] {
      for slash in [false, true] {
        for markup in [false, true] {
          for ascii in [false, true] {
            spellings.append(JSONSpelling(upper: upper, slash: slash, markup: markup, ascii: ascii).spell(text))
          }
        }
      }
    }
    return spellings
  }

  private struct JSONSpelling {
    let upper: Bool
    let slash: Bool
    let markup: Bool
    let ascii: Bool

    func spell(_ text: String) -> [UInt8] { text.unicodeScalars.flatMap(spell) }

    private func spell(_ scalar: Unicode.Scalar) -> [UInt8] {
      switch scalar {
      case "\"", "\\": [92, UInt8(scalar.value)]
      case "/" where slash: Array("\\/".utf8)
      case "\n": Array("\\n".utf8)
      case "\r": Array("\\r".utf8)
      case "\t": Array("\\t".utf8)
      case "\u{8}": Array("\\b".utf8)
      case "\u{c}": Array("\\f".utf8)
      case "<" where markup, ">" where markup, "&" where markup, "'" where markup: unit(UInt16(scalar.value))
      case _ where scalar.value < 0x20 || ascii && scalar.value > 0x7e: String(scalar).utf16.flatMap(unit)
      default: Array(String(scalar).utf8)
      }
    }

    private func unit(_ unit: UInt16) -> [UInt8] {
      Array("\\u".utf8) + Hexadecimal.bytes([UInt8(unit >> 8), UInt8(unit & 255)], upper: upper)
    }
  }

  /// By name, and by the numbers that are used where an older HTML has no name.
  private static func html(_ secret: [UInt8]) -> [[UInt8]] {
    let forms: [[UInt8: String]] = [
      [38: "&amp;", 60: "&lt;", 62: "&gt;"],
      [38: "&amp;", 60: "&lt;", 62: "&gt;", 34: "&quot;"],
      [38: "&amp;", 60: "&lt;", 62: "&gt;", 34: "&quot;", 39: "&#39;"],
      [38: "&amp;", 60: "&lt;", 62: "&gt;", 34: "&quot;", 39: "&#x27;"],
      [38: "&amp;", 60: "&lt;", 62: "&gt;", 34: "&quot;", 39: "&apos;"],
      [38: "&amp;", 60: "&lt;", 62: "&gt;", 34: "&#34;", 39: "&#39;"],
      [38: "&#38;", 60: "&#60;", 62: "&#62;", 34: "&#34;", 39: "&#39;"],
    ]
    return forms.map { form in secret.flatMap { byte in form[byte].map { Array($0.utf8) } ?? [byte] } }
  }
}
