import FoundationEssentials

/// The three parts of a signed token (RFC 7515, section 7.1), read so that each token has one spelling.
struct CompactToken {
  let algorithm: String
  let keyID: String
  let type: String
  let payload: [UInt8]
  let signature: [UInt8]
  /// What the signature is over.
  let signed: [UInt8]

  /// Ours are shorter; more is not worth reading.
  static let mostBytes = 8_192

  init(_ text: String) throws(TokenProblem) {
    guard text.utf8.count <= Self.mostBytes else { throw .malformed("more than \(Self.mostBytes) bytes") }
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3, let head = Base64URL.decode(parts[0]), let payload = Base64URL.decode(parts[1]),
      let signature = Base64URL.decode(parts[2])
    else { throw .malformed("not three parts in base64url") }
    // Every member of ours is a string, so `crit`, `jwk` and their like fail here or by their number. A key or an address that a token
    // brings along is never looked at.
    guard let members = try? JSONDecoder().decode([String: String].self, from: Data(head)), members.count == 3,
      let algorithm = members["alg"], let keyID = members["kid"], let type = members["typ"]
    else { throw .malformed("its header is not alg, kid and typ") }
    self.algorithm = algorithm
    self.keyID = keyID
    self.type = type
    self.payload = payload
    self.signature = signature
    signed = Array(parts[0].utf8) + [UInt8(ascii: ".")] + Array(parts[1].utf8)
  }
}
