import Foundation
import Synchronization

extension Town {
  /// Vault's key-value engine at https://vault.internal:8200, mounted as `secret`.
  public func vault() async throws -> Vault {
    try await once("vault") { [self] in
      let state = directory.appending(path: "vault.state")
      try Vault.State().write(to: state)
      let record = try await serveHTTPS("vault", "vault.internal", Street.vault, port: 8200, [state.path])
      return Vault(address: namespace.address(Street.vault), file: state, record: record)
    }
  }

  public final class Vault: Sendable {
    public let url = "https://vault.internal:8200"
    /// The only token that is let in.
    public let token = State.token
    public let address: String
    private let file: URL
    private let record: URL
    private let state = Mutex(State())

    /// As vault.py reads it.
    struct State: Encodable {
      static let token = "hvs.town\(UInt64.random(in: 1...UInt64.max))"

      var token = Self.token
      var secrets: [String: [Version]] = [:]

      struct Version: Encodable {
        var data: [String: String]
        var deleted = false
      }

      func write(to file: URL) throws { try JSONEncoder().encode(self).write(to: file, options: .atomic) }
    }

    init(address: String, file: URL, record: URL) {
      self.address = address
      self.file = file
      self.record = record
    }

    /// Adds a version of what lies at a path, such as `apps/mirror`, and returns its number.
    @discardableResult
    public func put(_ path: String, _ data: [String: String]) throws -> Int {
      try state.withLock { state in
        state.secrets[path, default: []].append(State.Version(data: data))
        try state.write(to: file)
        return state.secrets[path, default: []].count
      }
    }

    /// Deletes a version, counted from 1; those after it keep their numbers.
    public func delete(_ path: String, version: Int) throws {
      try state.withLock { state in
        state.secrets[path]?[version - 1].deleted = true
        try state.write(to: file)
      }
    }

    public func requests() throws -> [TownRequest] { try Town.record(record) }
  }
}
