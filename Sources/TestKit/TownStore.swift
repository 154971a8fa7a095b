import Foundation

extension Town {
  /// An object store that speaks S3 at https://s3.internal, by path, and lets in only what is signed with its credentials.
  public func store() async throws -> ObjectStore {
    try await once("store") { [self] in
      let credentials = ObjectStore.Credentials()
      let objects = directory.appending(path: "objects")
      let file = directory.appending(path: "store.credentials")
      try FileManager.default.createDirectory(at: objects, withIntermediateDirectories: false)
      try JSONEncoder().encode(credentials).write(to: file)
      let record = try await serveHTTPS(
        "store", "s3.internal", Street.store, port: 443, [objects.path, file.path], interpreter: try Self.interpreter)
      return ObjectStore(
        address: namespace.address(Street.store), credentials: credentials, objects: objects, record: record)
    }
  }

  public struct ObjectStore: Sendable {
    /// Those of a session, as a role gives them out.
    public struct Credentials: Sendable, Encodable {
      public let key = "ASIATOWN\(UInt32.random(in: 10_000_000...99_999_999))"
      public let secret = "town-secret-\(UUID().uuidString)"
      public let token = "town-session-\(UUID().uuidString)"
      public let region = "eu-central-1"
    }

    public let url = "https://s3.internal"
    public let address: String
    public let credentials: Credentials
    private let objects: URL
    private let record: URL

    init(address: String, credentials: Credentials, objects: URL, record: URL) {
      self.address = address
      self.credentials = credentials
      self.objects = objects
      self.record = record
    }

    public func requests() throws -> [TownRequest] { try Town.record(record) }

    /// What is stored in `bucket/key`; nil where nothing is.
    public func object(_ path: String) -> Data? { FileManager.default.contents(atPath: file(path).path) }

    public func put(_ path: String, _ content: Data) throws { try content.write(to: file(path), options: .atomic) }

    /// Percent-encoded as Python's `quote` does without exceptions.
    private func file(_ path: String) -> URL {
      let plain = CharacterSet(charactersIn: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")
      let name = path.addingPercentEncoding(withAllowedCharacters: plain) ?? ""
      return URL(fileURLWithPath: "\(objects.path)/\(name)")
    }
  }
}
