/// The body of a request to the issuer's introspection endpoint.
enum IntrospectionForms: Fuzzer {
  static var seeds: [[UInt8]] {
    ["token=a.b.c", "token=a%2Eb&token_type_hint=access_token", "x=y&token=+%41", "token=a&token=b"].map {
      Array($0.utf8)
    }
  }

  static var words: [[UInt8]] { ["token", "=", "&", "%", "%2e", "%00", "+"].map { Array($0.utf8) } }

  static func run(_ bytes: [UInt8]) {
    let type = "application/x-www-form-urlencoded"
    guard let form = IntrospectionForm(bytes, contentType: type) else { return }
    expect(!form.token.isEmpty, "a token that was found is one")
    expect(form.token.utf8.count <= bytes.count, "decoding makes nothing longer")
    expect(
      IntrospectionForm(bytes + Array("&a=b".utf8), contentType: type) == form, "other members change nothing of it")
    expect(IntrospectionForm(bytes + Array("&token=b".utf8), contentType: type) == nil, "two tokens are none")
  }
}
