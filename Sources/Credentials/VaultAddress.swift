/// Where a secret lies in HashiCorp Vault's key-value engine, version 2, and how to ask for it.
public struct VaultAddress: Sendable, Equatable {
  /// `https://vault.internal:8200`, without a path.
  public let address: String
  /// Where the engine is mounted, such as `secret`.
  public let mount: String
  /// Of the secret in the engine.
  public let path: String
  /// The member of the secret's data; its value must be a text.
  public let field: String
  /// Read anew each time, since an agent renews it.
  public let tokenFile: String
  /// PEM; the system's authorities where there is none.
  public let authorityFile: String?
  public let namespace: String?

  /// - Throws: `CredentialError` for what is no address, for one without TLS that leaves the host, and for paths that
  ///   would be read otherwise.
  public init(
    address: String, mount: String, path: String, field: String, tokenFile: String, authorityFile: String? = nil,
    namespace: String? = nil
  ) throws(CredentialError) {
    self.address = address.hasSuffix("/") ? String(address.dropLast()) : address
    self.mount = mount
    self.path = path
    self.field = field
    self.tokenFile = tokenFile
    self.authorityFile = authorityFile
    self.namespace = namespace
    try Self.judge(self.address)
    for (name, text) in [("mount", mount), ("path", path), ("namespace", namespace ?? "root")] {
      let segments = text.split(separator: "/", omittingEmptySubsequences: false)
      guard segments.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." }) else {
        throw CredentialError(.definition, "\(name): '\(text)' has an empty segment, '.' or '..'")
      }
      guard text.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
        throw CredentialError(.definition, "\(name): holds a space, a control character or a byte beyond ASCII")
      }
    }
  }

  /// What is asked for: KV v2's "Read secret version".
  var url: String { "\(address)/v1/\(Self.encoded(mount))/data/\(Self.encoded(path))" }

  /// How it is named in errors.
  var name: String { "vault \(mount)/\(path)" }

  private static func encoded(_ path: String) -> String {
    String(decoding: PercentEncoding.encode(path.utf8) { $0 == 47 || PercentEncoding.isUnreserved($0) }, as: UTF8.self)
  }

  private static func judge(_ address: String) throws(CredentialError) {
    let isSecure = address.hasPrefix("https://")
    guard isSecure || address.hasPrefix("http://") else {
      throw CredentialError(.definition, "address: write https://host:port")
    }
    let authority = address.dropFirst(isSecure ? 8 : 7)
    guard !authority.isEmpty, authority.utf8.allSatisfy(isAuthorityByte) else {
      throw CredentialError(.definition, "address: write https://host:port, without a user, a path or a query")
    }
    let host = authority.hasPrefix("[") ? authority.prefix { $0 != "]" } + "]" : authority.prefix { $0 != ":" }
    guard isSecure || ["127.0.0.1", "localhost", "[::1]"].contains(host) else {
      throw CredentialError(
        .definition, "address: the token and the secret would cross the network in clear text (fix: use https)")
    }
  }

  private static func isAuthorityByte(_ byte: UInt8) -> Bool {
    switch byte {
    case 48...58, 65...91, 93, 97...122, 45, 46: true
    default: false
    }
  }
}
