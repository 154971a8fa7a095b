import Jobs

// A policy names a credential; what is behind the name stands in the worker's own configuration, because whoever writes
// policies need not know where secrets lie, and whoever keeps secrets decides who may use them:
//
//   credentials:
//     index:
//       tenants: [finance]
//       queues: [nightly]
//       source: {file: /etc/cordon/index-token}
//       inject: {bearer: true}
//
// Read as a whole when a worker starts: what is not understood keeps it from starting.

/// One credential as the worker's configuration defines it.
public struct CredentialDefinition: Sendable, Equatable {
  public let name: String
  /// Who may use it: an attempt's tenant and its queue must both be listed. Nobody where a list is empty.
  public let tenants: [String]
  public let queues: [String]
  public let source: SourceDefinition
  /// Nil for a PostgreSQL login only, which belongs into no request.
  public let injection: InjectionForm?

  /// - Parameters:
  ///   - json: the object under the credential's name.
  ///   - path: where it stands, for errors.
  /// - Throws: `CredentialError` of kind `definition` with the path of the first member at fault.
  public init(name: String, json: JSONValue, path: String = "credentials") throws(CredentialError) {
    let place = "\(path).\(name)"
    guard Self.isName(name) else {
      throw CredentialError(
        .definition, "\(place): a name is 1 to 63 of a-z, 0-9, - and _, and begins with a letter")
    }
    let object = try DefinitionObject(json, at: place, known: ["tenants", "queues", "source", "inject"])
    self.name = name
    tenants = try object.texts("tenants")
    queues = try object.texts("queues")
    source = try SourceDefinition(try object.required("source"), at: "\(place).source")
    let inject = object.value("inject")
    if case .postgresRole = source {
      guard inject == nil else {
        throw object.problem("inject", "a PostgreSQL login is put into no request (fix: remove it)")
      }
      injection = nil
    } else {
      injection = try InjectionForm(try object.required("inject"), at: "\(place).inject")
    }
  }

  /// All definitions of a configuration, by name.
  public static func all(
    _ json: JSONValue, at path: String = "credentials"
  ) throws(CredentialError) -> [String: CredentialDefinition] {
    let object = try DefinitionObject(json, at: path)
    var all: [String: CredentialDefinition] = [:]
    for name in object.names {
      all[name] = try CredentialDefinition(name: name, json: try object.required(name), path: path)
    }
    return all
  }

  /// Whether an attempt may use it.
  public func permits(_ attempt: CredentialAttempt) -> Bool {
    tenants.contains(attempt.tenant) && queues.contains(attempt.queue)
  }

  /// It stands in markers, `[redacted:name]`, and in the record.
  private static func isName(_ text: String) -> Bool {
    (1...63).contains(text.utf8.count) && text.utf8.first.map { (97...122).contains($0) } == true
      && text.utf8.allSatisfy { (97...122).contains($0) || (48...57).contains($0) || $0 == 45 || $0 == 95 }
  }
}
