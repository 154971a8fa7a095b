import Crypto
import Destinations
import FoundationEssentials
import NIOSSL
import SwiftASN1
import X509

/// The authority by which a cell's clients are told that the broker is the server: for grants of mode `inspect` only.
///
/// Each attempt has its own, made when its session is opened and known to nobody else. Its key is in memory alone and signs here, once a
/// grant; then it is gone. So a certificate that leaves the cell is believed nowhere else, and not by the next attempt.
public struct Inspection: Sendable {
  /// The authority's certificate in PEM.
  public let authority: String
  private let contexts: [String: NIOSSLContext]

  /// Longer than any attempt; the grants' own limits end connections before.
  private static let life: TimeInterval = 7 * 86_400
  /// Clocks of a cell and its host are one; clients round.
  private static let slack: TimeInterval = 300

  /// Nil where no grant needs it.
  public init?(for grants: [Grant]) throws {
    let inspected = grants.filter { $0.mode == .inspect }
    guard !inspected.isEmpty else { return nil }
    let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
    let name = try DistinguishedName { CommonName("Cordon, one attempt") }
    let root = try Self.certificate(
      name, key.publicKey, issuer: name, key,
      try Certificate.Extensions {
        Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
        Critical(KeyUsage(keyCertSign: true))
        SubjectKeyIdentifier(hash: key.publicKey)
      })
    authority = try root.serializeAsPEM().pemString
    var contexts: [String: NIOSSLContext] = [:]
    for grant in inspected { contexts[grant.name] = try Self.context(for: grant, name, key) }
    self.contexts = contexts
  }

  func context(for grant: Grant) -> NIOSSLContext? { contexts[grant.name] }

  private static func context(
    for grant: Grant, _ issuer: DistinguishedName, _ issuerKey: Certificate.PrivateKey
  ) throws -> NIOSSLContext {
    guard case .name(let host) = grant.host else {
      preconditionFailure("a grant of mode inspect has a host name")
    }
    let key = P256.Signing.PrivateKey()
    let leaf = try certificate(
      try DistinguishedName { CommonName("Cordon, one grant") }, Certificate.PublicKey(key.publicKey), issuer: issuer,
      issuerKey,
      try Certificate.Extensions {
        Critical(BasicConstraints.notCertificateAuthority)
        Critical(KeyUsage(digitalSignature: true))
        try ExtendedKeyUsage([.serverAuth])
        SubjectAlternativeNames([.dnsName(host)])
        AuthorityKeyIdentifier(keyIdentifier: SubjectKeyIdentifier(hash: issuerKey.publicKey).keyIdentifier)
      })
    var configuration = TLSConfiguration.makeServerConfiguration(
      certificateChain: [
        .certificate(try NIOSSLCertificate(bytes: Array(leaf.serializeAsPEM().derBytes), format: .der))
      ],
      privateKey: .privateKey(try NIOSSLPrivateKey(bytes: Array(key.derRepresentation), format: .der)))
    configuration.minimumTLSVersion = .tlsv12
    configuration.applicationProtocols = ["http/1.1"]
    return try NIOSSLContext(configuration: configuration)
  }

  private static func certificate(
    _ subject: DistinguishedName, _ key: Certificate.PublicKey, issuer: DistinguishedName,
    _ issuerKey: Certificate.PrivateKey, _ extensions: Certificate.Extensions
  ) throws -> Certificate {
    try Certificate(
      version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: key, notValidBefore: Date() - slack,
      notValidAfter: Date() + life, issuer: issuer, subject: subject, signatureAlgorithm: .ecdsaWithSHA256,
      extensions: extensions, issuerPrivateKey: issuerKey)
  }
}
