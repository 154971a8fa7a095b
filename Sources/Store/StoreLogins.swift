import Postgres

extension Store {
  /// Makes `role` a login and a member of `groups`; what is so already stays as it is.
  ///
  /// The session's role must be allowed to create roles. No password is set: how the login proves who it is, is
  /// the server's configuration.
  public func ensureLogin(role: String, groups: [String]) async throws {
    try await pool.withConnection { connection in
      try await connection.transaction { connection in
        let rows = try connection.query(Query.ensureLogin.statement, [Parameter(role), Parameter(groups)])
        guard let script = try rows.first?.get("script", as: String.self), !script.isEmpty else { return }
        try connection.execute(script: script)
      }
    }
  }
}
