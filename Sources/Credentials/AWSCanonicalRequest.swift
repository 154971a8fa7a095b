// AWS Signature Version 4 signs one spelling of a request, which the server makes again from what it received. The rules
// are those of "Create a signed AWS API request" in the IAM user guide; where it is silent, what botocore does.

/// A request to be signed, as it will go over the wire.
public struct AWSRequest: Sendable, Equatable {
  public enum Payload: Sendable, Equatable {
    /// 64 lower-case hex digits: SHA-256 of the body.
    case sha256(String)
    /// The body is not signed; only S3 takes that, and only TLS then protects it.
    case unsigned
  }

  public var method: String
  /// The path as it is sent: percent-encoded, from `/` on, without the query.
  public var path: String
  /// The query as it is sent, without `?`; empty where there is none.
  public var query: String
  /// The fields as they are sent, `Host` among them.
  public var fields: [(name: String, value: String)]
  public var payload: Payload

  public init(
    method: String, path: String, query: String = "", fields: [(name: String, value: String)], payload: Payload
  ) {
    self.method = method
    self.path = path
    self.query = query
    self.fields = fields
    self.payload = payload
  }

  public static func == (left: AWSRequest, right: AWSRequest) -> Bool {
    left.method == right.method && left.path == right.path && left.query == right.query
      && left.payload == right.payload && left.fields.elementsEqual(right.fields, by: ==)
  }

  /// SHA-256 of no bytes.
  public static let emptyPayload = Payload.sha256("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
}

/// The spelling of a request that is signed.
struct AWSCanonicalRequest {
  let text: String
  /// `host;x-amz-date`, in the order of the text.
  let signedFields: String

  /// - Parameters:
  ///   - fields: those that are sent, without what stands in `unsigned`.
  ///   - payload: the hash, or the word in its place.
  init(_ request: AWSRequest, fields: [(name: String, value: String)], payload: String, scope: AWSScope)
    throws(CredentialError)
  {
    let groups = Dictionary(grouping: fields) { $0.name.lowercased() }.filter { !Self.unsigned.contains($0.key) }
    let names = groups.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    let lines = names.map { name in
      "\(name):\(groups[name, default: []].map { Self.trimmed($0.value) }.joined(separator: ","))\n"
    }
    signedFields = names.joined(separator: ";")
    text = [
      request.method, try Self.path(request.path, scope), try Self.query(request.query), lines.joined(), signedFields,
      payload,
    ].joined(separator: "\n")
  }

  /// Fields that a proxy on the way may change or take away, which would break the signature.
  static let unsigned: Set<String> = [
    "authorization", "baggage", "connection", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization", "te",
    "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade", "user-agent", "x-amzn-trace-id",
  ]

  private static func path(_ path: String, _ scope: AWSScope) throws(CredentialError) -> String {
    guard path.hasPrefix("/") else { throw refusal("a path that does not begin with '/'") }
    guard let decoded = PercentEncoding.decode(path.utf8) else {
      throw refusal("a '%' in the path without two hex digits")
    }
    guard !scope.isS3 else {
      // Encoded once, however it was written: that is what S3 makes of the object's key. A slash that was written %2F
      // would be another key by this, so it cannot be signed.
      guard !path.lowercased().contains("%2f") else { throw refusal("an encoded slash in a path for S3") }
      return String(
        decoding: PercentEncoding.encode(decoded) { $0 == 47 || PercentEncoding.isUnreserved($0) }, as: UTF8.self)
    }
    var segments: [Substring] = []
    for segment in path.split(separator: "/") where segment != "." {
      if segment == ".." { _ = segments.popLast() } else { segments.append(segment) }
    }
    let normal = "/" + segments.joined(separator: "/") + (path.hasSuffix("/") && !segments.isEmpty ? "/" : "")
    return String(
      decoding: PercentEncoding.encode(normal.utf8) { $0 == 47 || PercentEncoding.isUnreserved($0) }, as: UTF8.self)
  }

  private static func query(_ query: String) throws(CredentialError) -> String {
    guard !query.isEmpty else { return "" }
    var pairs: [(name: [UInt8], value: [UInt8])] = []
    for pair in query.split(separator: "&", omittingEmptySubsequences: false) {
      let halves = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard let name = PercentEncoding.decode(halves[0].utf8),
        let value = PercentEncoding.decode((halves.count == 2 ? halves[1] : "").utf8)
      else { throw refusal("a '%' in the query without two hex digits") }
      // Some servers read it as a space.
      guard !pair.utf8.contains(43) else { throw refusal("a '+' in the query (fix: send %20 or %2B)") }
      let lower = String(decoding: name, as: UTF8.self).lowercased()
      guard !signatureParameters.contains(lower) else { throw refusal("a signature of its own in the query") }
      pairs.append((PercentEncoding.encode(name), PercentEncoding.encode(value)))
    }
    pairs.sort { left, right in
      left.name == right.name
        ? left.value.lexicographicallyPrecedes(right.value) : left.name.lexicographicallyPrecedes(right.name)
    }
    return String(decoding: Array(pairs.map { $0.name + [61] + $0.value }.joined(separator: [38])), as: UTF8.self)
  }

  /// Of a presigned URL, which would be judged by its own signature and not by ours.
  private static let signatureParameters: Set<String> = [
    "x-amz-algorithm", "x-amz-credential", "x-amz-signature", "x-amz-signedheaders", "x-amz-security-token",
    "x-amz-date", "x-amz-expires", "awsaccesskeyid", "signature",
  ]

  /// Without white space at the ends, and one space for each run of it inside.
  private static func trimmed(_ value: String) -> String {
    value.split { $0 == " " || $0 == "\t" }.joined(separator: " ")
  }

  static func refusal(_ what: String) -> CredentialError {
    CredentialError(.unusable, "the request cannot be signed: it has \(what)")
  }
}
