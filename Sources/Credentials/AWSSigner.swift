import Crypto
import FoundationEssentials

/// Signs requests for AWS with Signature Version 4.
public struct AWSSigner: Sendable {
  public let scope: AWSScope
  private let keys: AWSKeys

  /// - Throws: `CredentialError` where the secret has not the parts that the scope asks for.
  public init(_ secret: Secret, for scope: AWSScope) throws(CredentialError) {
    self.scope = scope
    keys = try AWSKeys(secret, for: scope)
  }

  /// The fields to send with the request. Fields of the same names that the request brought are to be removed, and were
  /// not signed.
  ///
  /// - Parameter date: now; AWS takes what is less than some minutes off.
  /// - Throws: `CredentialError` for a request that two servers may read differently, brings a signature of its own, or
  ///   has a body that is signed chunk by chunk, which whoever does not hold the key cannot have done.
  public func sign(_ request: AWSRequest, at date: Date) throws(CredentialError) -> [(name: String, value: String)] {
    try refuseStreaming(request)
    let time = date.formatted(Self.timeStyle)
    let payload = try payload(request)
    var added: [(name: String, value: String)] = [("x-amz-date", time)]
    if scope.isS3 { added.append(("x-amz-content-sha256", payload)) }
    if let token = keys.sessionToken?.text { added.append(("x-amz-security-token", token)) }
    let fields = request.fields.filter { !Self.ours.contains($0.name.lowercased()) } + added
    guard fields.filter({ $0.name.lowercased() == "host" }).count == 1 else {
      throw AWSCanonicalRequest.refusal("no Host, or more than one")
    }
    guard fields.allSatisfy({ $0.value.utf8.allSatisfy { $0 == 9 || $0 >= 32 && $0 != 127 } }) else {
      throw AWSCanonicalRequest.refusal("a control character in a field")
    }
    let canonical = try AWSCanonicalRequest(request, fields: fields, payload: payload, scope: scope)
    let place = "\(time.prefix(8))/\(scope.region)/\(scope.service)/aws4_request"
    let toSign =
      "AWS4-HMAC-SHA256\n\(time)\n\(place)\n\(Hexadecimal.lower(SHA256.hash(data: Array(canonical.text.utf8))))"
    let signature = HMAC<SHA256>.authenticationCode(for: Array(toSign.utf8), using: signingKey(day: time.prefix(8)))
    added.append(
      (
        "authorization",
        "AWS4-HMAC-SHA256 Credential=\(keys.identifier)/\(place), SignedHeaders=\(canonical.signedFields), "
          + "Signature=\(Hexadecimal.lower(signature))"
      ))
    return added
  }

  /// What a request may not say for itself.
  private static let ours: Set<String> = [
    "authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token",
  ]

  private static let timeStyle = Date.ISO8601FormatStyle(
    dateSeparator: .omitted, dateTimeSeparator: .standard, timeSeparator: .omitted, timeZone: .gmt)

  private func signingKey(day: Substring) -> SymmetricKey {
    let first = keys.key.withBytes { SymmetricKey(data: Array("AWS4".utf8) + $0) }
    return [String(day), scope.region, scope.service, "aws4_request"].reduce(first) { key, text in
      SymmetricKey(data: HMAC<SHA256>.authenticationCode(for: Array(text.utf8), using: key))
    }
  }

  private func payload(_ request: AWSRequest) throws(CredentialError) -> String {
    switch request.payload {
    case .sha256(let digest):
      guard digest.utf8.count == 64,
        digest.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) })
      else { throw AWSCanonicalRequest.refusal("a hash of the body that is not 64 lower-case hex digits") }
      return digest
    case .unsigned:
      guard scope.isS3 else { throw AWSCanonicalRequest.refusal("no hash of its body, which only S3 takes") }
      return "UNSIGNED-PAYLOAD"
    }
  }

  private func refuseStreaming(_ request: AWSRequest) throws(CredentialError) {
    for field in request.fields {
      let value = field.value.lowercased()
      switch field.name.lowercased() {
      case "x-amz-content-sha256" where value.hasPrefix("streaming-"),
        "content-encoding" where value.contains("aws-chunked"):
        throw AWSCanonicalRequest.refusal("a body signed chunk by chunk (fix: have the client sign it as a whole)")
      default: continue
      }
    }
  }
}
