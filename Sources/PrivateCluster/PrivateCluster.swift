import Dispatch
import Glibc
import Postgres

/// A PostgreSQL of our own in a directory, reached by a unix socket only and never run as root. Made on the first
/// start, kept until somebody removes the directory.
public struct PrivateCluster: Sendable {
  /// The database superuser.
  public static let superuser = "postgres"

  public let directory: String
  /// Only root and the server's user may enter it.
  public let socketDirectory: String
  /// True when the server was running before `start`, which then only found it.
  public let wasRunning: Bool

  /// Starts the server of a directory, making directory and cluster where they are missing, and returns once it
  /// answers.
  ///
  /// - Parameters:
  ///   - durable: false trades every promise of durability for speed; for clusters that are thrown away.
  ///   - settings: further `name=value` that the server is started with.
  ///
  /// Throws `ClusterError` saying what is missing and how to get it, or `PostgresError` when it does not answer.
  public static func start(
    directory: String, durable: Bool = true, settings: [String] = []
  ) async throws -> PrivateCluster {
    let cluster = try await blocking {
      let files = try DataDirectory(directory)
      let (socketDirectory, wasRunning) = try files.start(durable: durable, settings: settings)
      return PrivateCluster(directory: files.root, socketDirectory: socketDirectory, wasRunning: wasRunning)
    }
    try await cluster.asSuperuser { _ in }
    return cluster
  }

  /// A connection string for a database of this cluster. Everybody who reaches the socket may be any user.
  public func url(database: String, user: String = superuser) -> String {
    "postgresql:///\(percentEncoded(database))?host=\(percentEncoded(socketDirectory))&user=\(percentEncoded(user))"
  }

  /// Shuts the server down (fast: sessions end, nothing is lost) and waits for it. A server that was running before
  /// `start` is left alone unless `evenIfAdopted`.
  public func stop(evenIfAdopted: Bool = false) async throws {
    guard !wasRunning || evenIfAdopted else { return }
    let directory = directory
    try await blocking { try DataDirectory(directory).stop() }
  }

  /// Ends the server as a crash does, whatever runs in it; `start` on its directory recovers.
  public func crash() async throws {
    let directory = directory
    try await blocking { try DataDirectory(directory).crash() }
  }

  /// Makes a database, as a copy of `template` where one is named (to which nobody may be connected).
  /// Throws `PostgresError` 42P04 when there is one of that name.
  public func createDatabase(_ name: String, template: String? = nil) async throws {
    try await asSuperuser { connection throws(PostgresError) in
      let source = try template.map { name throws(PostgresError) in
        " TEMPLATE \(try connection.quote(identifier: name))"
      }
      try connection.execute(script: "CREATE DATABASE \(try connection.quote(identifier: name))\(source ?? "")")
    }
  }

  /// Removes a database and ends its sessions; nothing happens when there is none of that name.
  public func dropDatabase(_ name: String) async throws {
    try await asSuperuser { connection throws(PostgresError) in
      let quoted = try connection.quote(identifier: name)
      try connection.execute(script: "DROP DATABASE IF EXISTS \(quoted) WITH (FORCE)")
    }
  }

  private func asSuperuser(_ body: @Sendable (isolated Connection) throws -> Void) async throws {
    let connection = try await Connection.connect(ConnectionSettings(url(database: "postgres")))
    do {
      try await body(connection)
    } catch {
      await connection.close()
      throw error
    }
    await connection.close()
  }
}

/// Runs blocking work away from the threads that tasks share.
func blocking<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
  try await withCheckedThrowingContinuation { continuation in
    DispatchQueue.global().async { continuation.resume(with: Result(catching: work)) }
  }
}

/// For every part of a connection URL.
private func percentEncoded(_ text: String) -> String {
  let digits = Array("0123456789ABCDEF")
  var encoded = ""
  for byte in text.utf8 {
    let scalar = Unicode.Scalar(byte)
    if byte < 0x80, scalar.properties.isAlphabetic || scalar.properties.numericType != nil || "-._~".utf8.contains(byte)
    {
      encoded.unicodeScalars.append(scalar)
    } else {
      encoded += "%\(digits[Int(byte >> 4)])\(digits[Int(byte & 15)])"
    }
  }
  return encoded
}
