import Jobs

/// What a token of an attempt is to say.
public struct TokenTerms: Sendable, Equatable {
  /// For this relying party alone.
  public let audience: String
  /// For whom the attempt acts, and not only who it is. A job that acts for nobody then has none.
  public let isDelegation: Bool

  public init(audience: String, isDelegation: Bool = false) {
    self.audience = audience
    self.isDelegation = isDelegation
  }
}

/// Where a secret comes from, as the configuration says it.
public enum SourceDefinition: Sendable, Equatable {
  /// The path of a file.
  case file(String)
  /// The name of a variable.
  case environment(String)
  case vault(VaultAddress)
  case postgresRole(PostgresRoleTerms)
  /// A token of the attempt; made for each use.
  case workloadToken(TokenTerms)

  init(_ json: JSONValue, at path: String) throws(CredentialError) {
    let object = try DefinitionObject(
      json, at: path, known: ["file", "environment", "vault", "postgres_role", "workload_token"])
    switch try object.single("source") {
    case "file": self = .file(try Self.path(object, "file"))
    case "environment":
      let name = try object.text("environment")
      guard !name.contains("=") else { throw object.problem("environment", "write the name of a variable") }
      self = .environment(name)
    case "vault": self = .vault(try Self.vault(try object.required("vault"), at: "\(path).vault"))
    case "workload_token":
      let token = try DefinitionObject(
        try object.required("workload_token"), at: "\(path).workload_token", known: ["audience", "delegation"])
      self = .workloadToken(
        TokenTerms(audience: try token.text("audience"), isDelegation: try token.flag("delegation")))
    default: self = .postgresRole(try Self.role(try object.required("postgres_role"), at: "\(path).postgres_role"))
    }
  }

  /// Absolute, because a worker's directory is nobody's intention.
  private static func path(_ object: DefinitionObject, _ name: String) throws(CredentialError) -> String {
    let path = try object.text(name)
    guard path.hasPrefix("/") else { throw object.problem(name, "write an absolute path") }
    return path
  }

  private static func vault(_ json: JSONValue, at path: String) throws(CredentialError) -> VaultAddress {
    let object = try DefinitionObject(
      json, at: path, known: ["address", "mount", "path", "field", "token_file", "ca_file", "namespace"])
    do {
      return try VaultAddress(
        address: try object.text("address"), mount: try object.text("mount"), path: try object.text("path"),
        field: try object.text("field"), tokenFile: try Self.path(object, "token_file"),
        authorityFile: object.value("ca_file") == nil ? nil : try Self.path(object, "ca_file"),
        namespace: try object.optionalText("namespace"))
    } catch {
      throw error.reason.hasPrefix(path) ? error : error.named(path)
    }
  }

  private static func role(_ json: JSONValue, at path: String) throws(CredentialError) -> PostgresRoleTerms {
    let object = try DefinitionObject(
      json, at: path, known: ["admin_url_file", "groups", "connection_limit", "prefix"])
    let groups = try object.texts("groups")
    guard !groups.isEmpty else {
      throw object.problem("groups", "an empty list is none, and such a login could do nothing")
    }
    var limit = PostgresRoleTerms.usualConnectionLimit
    if let value = object.value("connection_limit") {
      guard let number = value.integer, (1...1_000).contains(number) else {
        throw object.problem("connection_limit", "write a whole number from 1 to 1000")
      }
      limit = Int(number)
    }
    let prefix = try object.optionalText("prefix") ?? PostgresRoleTerms.usualPrefix
    guard PostgresRoleName.isPrefix(prefix) else {
      throw object.problem("prefix", "write 1 to 24 of a-z and _, beginning with a letter and ending with _")
    }
    return PostgresRoleTerms(
      adminFile: try Self.path(object, "admin_url_file"), groups: groups, connectionLimit: limit, prefix: prefix)
  }
}
