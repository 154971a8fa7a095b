/// The signatures an attempt's tokens carry.
///
/// ES256 is the one to use. RS256 is there for relying parties that take nothing else: OpenID Connect makes it the one algorithm that
/// every party must know (OpenID Connect Core 1.0, section 15.1). Nothing is symmetric, so that who can verify cannot sign.
public enum SigningAlgorithm: String, Codable, CaseIterable, Sendable {
  /// ECDSA on P-256 with SHA-256.
  case es256 = "ES256"
  /// RSASSA-PKCS1-v1_5 with SHA-256.
  case rs256 = "RS256"
}
