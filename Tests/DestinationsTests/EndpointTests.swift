import Testing

@testable import Destinations

@Suite struct EndpointTests {
  @Test(
    arguments: [
      ("packages.internal:443", "packages.internal:443"), ("PACKAGES.Internal:443", "packages.internal:443"),
      ("10.0.0.1:80", "10.0.0.1:80"), ("[::1]:8080", "[::1]:8080"), ("[::FFFF:10.0.0.1]:1", "10.0.0.1:1"),
      ("xn--bcher-kva.example:65535", "xn--bcher-kva.example:65535"), ("a-b.c1:1", "a-b.c1:1"),
      ("localhost:22", "localhost:22"),
      ("1password.example:443", "1password.example:443"), ("0xcafe.example:443", "0xcafe.example:443"),
    ])
  func oneSpelling(text: String, canonical: String) throws {
    let endpoint = try Endpoint(authority: text)
    #expect(endpoint.description == canonical)
    #expect(try Endpoint(authority: canonical) == endpoint)
  }

  @Test(
    "NW-03, NW-13: a host that could be read in two ways is none",
    arguments: [
      "", ":443", "packages.internal", "packages.internal:", "packages.internal:0", "packages.internal:65536",
      "packages.internal:0443", "packages.internal:+443", "packages.internal:443 ", "packages.internal:4a", "a:1:2",
      "::1:443",
      "[::1]", "[::1", "[::1]443", "[10.0.0.1]:443", "[::1%lo]:443", "[packages.internal]:443",
      "packages.internal.:443", ".a:443",
      "a..b:443", "a b:443", "a\0b:443", "a\r\nb:443", "a\tb:443", "user@packages.internal:443", "a%2eb:443", "a#b:443",
      "a/b:443", "a\\b:443", "a?b:443", "-a.b:443", "a-.b:443", "a_b.c:443", "bücher.example:443",
      "ｐackages.internal:443",
      "packages。internal:443", "2852039166:80", "0xA9FEA9FE:80", "0xa9.0xfe.0xa9.0xfe:80", "0251.0376.0251.0376:80",
      "169.254.43518:80", "127.1:80", "1.2.3.4.5:80", "packages.0x:80", "packages.0x1f:80", "packages.1:80",
      "256.1.1.1:80",
      "*.packages.internal:443", "[*.internal]:443", "a,b:443", "a;b:443", "$(id):443", "169.254.169.254.:80",
    ])
  func ambiguous(text: String) {
    #expect(throws: Endpoint.Problem.self, "\(text)") { try Endpoint(authority: text) }
  }

  @Test func lengthsAreBounded() throws {
    let label = String(repeating: "a", count: 63)
    #expect(throws: Never.self) { try Endpoint(authority: "\(label).b:1") }
    #expect(throws: Endpoint.Problem.self) { try Endpoint(authority: "\(label)a.b:1") }
    let long = Array(repeating: label, count: 4).joined(separator: ".")
    #expect(throws: Endpoint.Problem.self) { try Endpoint(authority: "\(long):1") }
    #expect(throws: Endpoint.Problem.self) { try Endpoint(authority: String(repeating: "a", count: 4_096) + ":1") }
  }

  /// Every byte, in the middle of a name: letters, digits, the hyphen and the dot are of a name, and nothing else is.
  @Test func everyByte() {
    for byte in UInt8.min...UInt8.max {
      let bytes = Array("ab".utf8) + [byte] + Array("cd".utf8)
      let isOfAName =
        (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte) || byte == 0x2d
        || byte == 0x2e
      #expect(((try? Endpoint.host(bytes)) != nil) == isOfAName, "\(byte)")
    }
  }
}
