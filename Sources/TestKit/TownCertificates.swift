import Foundation

/// A certificate authority made for one town with OpenSSL's command line, and the certificates of its hosts.
public struct TownCertificates: Sendable {
  private let directory: URL

  /// The authority's own certificate, in PEM.
  public var caFile: String { directory.path + "/ca.pem" }

  /// How long everything is valid, in days.
  private static let days = "2"

  static func make(in directory: URL) async throws -> TownCertificates {
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
    let authority = TownCertificates(directory: directory)
    try await authority.request(
      "ca", subject: "/CN=Authority of a town",
      extensions: ["basicConstraints=critical,CA:TRUE,pathlen:0", "keyUsage=critical,keyCertSign"], issuer: [])
    return authority
  }

  /// A certificate for one name, and its key, as paths of PEM files. Again for the same name is another certificate.
  public func issue(_ name: String) async throws -> (certificate: String, key: String) {
    let file = "\(name)-\(UUID().uuidString.prefix(8))"
    try await request(
      file, subject: "/CN=\(name)",
      extensions: [
        "basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", "extendedKeyUsage=serverAuth",
        "subjectAltName=DNS:\(name)",
      ], issuer: ["-CA", caFile, "-CAkey", directory.path + "/ca.key"])
    return ("\(directory.path)/\(file).pem", "\(directory.path)/\(file).key")
  }

  private func request(_ file: String, subject: String, extensions: [String], issuer: [String]) async throws {
    let configuration = "\(directory.path)/\(file).cnf"
    // OpenSSL's own configuration would make every certificate an authority's.
    try "[req]\ndistinguished_name=subject\nx509_extensions=extensions\n[subject]\n[extensions]\n"
      .appending(extensions.joined(separator: "\n") + "\n")
      .write(toFile: configuration, atomically: true, encoding: .utf8)
    try await Town.perform(
      [
        "/usr/bin/openssl", "req", "-x509", "-config", configuration, "-newkey", "ec", "-pkeyopt",
        "ec_paramgen_curve:prime256v1", "-nodes", "-days", Self.days, "-subj", subject, "-keyout",
        "\(directory.path)/\(file).key", "-out", "\(directory.path)/\(file).pem",
      ] + issuer)
  }
}
