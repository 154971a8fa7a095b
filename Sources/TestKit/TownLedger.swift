import Foundation
import Postgres
import PrivateCluster

extension Town {
  /// A PostgreSQL at ledger.internal:5432, TLS only, with a database `ledger` and a schema `books` in it.
  public func ledger() async throws -> Ledger {
    try await once("ledger") { [self] in
      let (names, address) = (try await dns(), namespace.address(Street.ledger))
      let account = try Account.resolve()
      let binaries = try Binaries.find().directory
      let ledger = Ledger(address: address, authority: certificates.caFile)
      let place = directory.appending(path: "ledger")
      let (data, password) = (place.path + "/data", place.path + "/password")
      try FileManager.default.createDirectory(at: place, withIntermediateDirectories: false)
      let (certificate, key) = try await certificates.issue("ledger.internal")
      // A server's key belongs to the server's user, and to nobody else, or PostgreSQL does not start.
      let (itsCertificate, itsKey) = (place.path + "/server.pem", place.path + "/server.key")
      try FileManager.default.copyItem(atPath: certificate, toPath: itsCertificate)
      try FileManager.default.copyItem(atPath: key, toPath: itsKey)
      try ledger.password.write(toFile: password, atomically: true, encoding: .utf8)
      for file in [place.path, itsKey, password] {
        guard chown(file, account.uid, account.gid) == 0, chmod(file, file == place.path ? 0o700 : 0o600) == 0 else {
          throw Problem("\(file) cannot be given to \(account.name)")
        }
      }
      try await Self.perform(
        account.prefix + [
          "\(binaries)/initdb", "-D", data, "--username=\(Ledger.administrator)", "--pwfile=\(password)",
          "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
        ])
      // Over TLS from the town's own block, with a password, and in no other way.
      let rules = data + "/pg_hba.conf"
      try "hostssl all all \(block) scram-sha-256\n".write(toFile: rules, atomically: true, encoding: .utf8)
      chown(rules, account.uid, account.gid)
      let settings = [
        "listen_addresses=\(address)", "unix_socket_directories=", "ssl=on", "ssl_cert_file=\(itsCertificate)",
        "ssl_key_file=\(itsKey)",
        // It is thrown away.
        "fsync=off", "full_page_writes=off", "synchronous_commit=off",
        // In files of its own: what lies in /dev/shm would outlive a server that is killed, as this one is.
        "dynamic_shared_memory_type=mmap",
        // Who did what can be read in ledger.log.
        "log_statement=all", "log_connections=on",
      ]
      try await serve(
        "ledger", account.prefix + ["\(binaries)/postgres", "-D", data] + settings.flatMap { ["-c", $0] }
      ) { (try? await Self.perform(["\(binaries)/pg_isready", "-q", "-h", address])) != nil }
      try await ledger.furnish()
      try names.set(Ledger.host, to: [.addresses([address])])
      return ledger
    }
  }

  public struct Ledger: Sendable {
    public static let host = "ledger.internal"
    public static let database = "ledger"
    /// May read all of the schema `books`, and nothing else.
    public static let reader = "books_reader"
    static let administrator = "postgres"

    let password = "town-\(UUID().uuidString)"
    public let address: String
    private let authority: String

    init(address: String, authority: String) {
      self.address = address
      self.authority = authority
    }

    /// The superuser's connection string, which is good in the host's place too: it names the address beside the host.
    public var superuser: String { superuser(of: Self.database) }

    private func superuser(of database: String) -> String {
      "postgresql://\(Self.administrator):\(password)@\(Self.host):5432/\(database)"
        + "?hostaddr=\(address)&sslmode=verify-full&sslrootcert=\(authority)"
    }

    /// Runs SQL text as the superuser.
    public func execute(_ script: String) async throws { try await execute(script, database: Self.database) }

    private func execute(_ script: String, database: String) async throws {
      let connection = try await Connection.connect(ConnectionSettings(superuser(of: database)))
      do {
        try await connection.execute(script: script)
      } catch {
        await connection.close()
        throw error
      }
      await connection.close()
    }

    /// The first column of all rows, as the superuser.
    public func ask(_ sql: String) async throws -> [String] {
      let connection = try await Connection.connect(ConnectionSettings(superuser))
      do {
        let rows = try await connection.query(Statement(name: "ask", sql: sql))
        await connection.close()
        return try rows.map { try $0.get(at: 0, as: String.self) }
      } catch {
        await connection.close()
        throw error
      }
    }

    func furnish() async throws {
      try await execute("CREATE DATABASE \(Self.database)", database: "postgres")
      try await execute(
        """
        CREATE SCHEMA books;
        CREATE TABLE books.entry (id int PRIMARY KEY, account text NOT NULL, cents bigint NOT NULL);
        INSERT INTO books.entry VALUES (1, 'cash', 1250), (2, 'bank', -400), (3, 'cash', 75);
        CREATE TABLE public.salary (id int);
        CREATE ROLE \(Self.reader) NOLOGIN;
        GRANT USAGE ON SCHEMA books TO \(Self.reader);
        GRANT SELECT ON ALL TABLES IN SCHEMA books TO \(Self.reader);
        """)
    }
  }
}
