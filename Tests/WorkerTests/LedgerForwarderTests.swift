import Logging
import Postgres
import Synchronization
import Testing

@testable import Worker

/// How an attempt's ledger comes into the database, and what happens where it does not.
@Suite("The ledger's way into the database") struct LedgerForwarderTests {
  private final class Database: Sendable {
    let stored = Mutex<[String]>([])
    private let answers: Mutex<[Result<Bool, any Error>]>

    /// - Parameter answers: to the first statements; later ones are stored.
    init(_ answers: Result<Bool, any Error>...) { self.answers = Mutex(answers) }

    func append(_ lines: [String]) throws -> Bool {
      let answer = answers.withLock { $0.isEmpty ? nil : $0.removeFirst() }
      guard try answer?.get() ?? true else { return false }
      stored.withLock { $0 += lines }
      return true
    }
  }

  /// What was stored and why the session was cut, where a line is added and another after the first answer.
  private func forward(to database: Database) async -> (stored: [String], cuts: [String]) {
    let cuts = Mutex<[String]>([])
    let forwarder = LedgerForwarder(logger: Logger(label: "test")) { try database.append($0) }
    forwarder.add("first")
    forwarder.begin { reason in cuts.withLock { $0.append(reason) } }
    forwarder.add("second")
    await forwarder.finish()
    return (database.stored.withLock { $0 }, cuts.withLock { $0 })
  }

  @Test("lines that the database refuses cut the session: nothing goes on unrecorded")
  func refused() async {
    let refusal = PostgresError(.server, "violates check constraint", sqlState: "23514")
    let (stored, cuts) = await forward(to: Database(.failure(refusal)))
    #expect(stored == [] && cuts == ["the ledger cannot be stored"])
  }

  @Test("lines of an attempt that is another worker's cut the session")
  func late() async {
    let (stored, cuts) = await forward(to: Database(.success(false)))
    #expect(stored == [] && cuts == ["the attempt is not this worker's any more"])
  }

  @Test("lines wait for a database that is away, and come in their order")
  func away() async {
    let (stored, cuts) = await forward(to: Database(.failure(PostgresError(.connection, "gone"))))
    #expect(stored == ["first", "second"] && cuts == [])
  }
}
