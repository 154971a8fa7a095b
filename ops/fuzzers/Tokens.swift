/// A token as anybody may show one to the issuer, before its signature is looked at.
enum Tokens: Fuzzer {
  static var seeds: [[UInt8]] {
    [
      "eyJhbGciOiJFUzI1NiIsImtpZCI6ImEiLCJ0eXAiOiJKV1QifQ.e30.AAAA",
      "eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJFUzI1NiIsImNyaXQiOlsiZXhwIl0sImtpZCI6ImEiLCJ0eXAiOiJKV1QifQ.e30.AAAA",
    ].map { Array($0.utf8) }
  }

  static var words: [[UInt8]] { [".", "eyJhbGciOi", "e30", "=", "-_", "+/"].map { Array($0.utf8) } }

  static func run(_ bytes: [UInt8]) {
    let text = String(decoding: bytes, as: UTF8.self)
    do {
      let token = try CompactToken(text)
      let signature = Base64URL.encode(token.signature)
      expect(String(decoding: token.signed, as: UTF8.self) + "." + signature == text, "a token has one spelling")
      expect(
        token.signed.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).count == 2,
        "two parts are signed")
      let payload = Base64URL.encode(token.payload)
      expect(token.signed.suffix(payload.utf8.count).elementsEqual(payload.utf8), "what is read is what is signed")
    } catch {
      expect(!error.description.utf8.contains(10), "a refusal is one line")
      expect(text.utf8.count < 24 || !error.description.contains(text), "a refusal repeats nothing of the token")
    }
  }
}
