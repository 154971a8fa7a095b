import PrivateCluster
import Testing

/// Gives every test it is on, or every test of its suite, a fresh database: `Database.current`.
public struct DatabaseTrait: TestTrait, SuiteTrait, TestScoping {
  let migrated: Bool

  public var isRecursive: Bool { true }

  public func provideScope(
    for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
  ) async throws {
    let database = try await TestCluster.shared.makeDatabase(migrated: migrated)
    let outcome: Result<Void, any Error>
    do {
      outcome = .success(try await Database.$value.withValue(database) { try await function() })
    } catch {
      outcome = .failure(error)
    }
    try await database.cluster.dropDatabase(database.name)
    try outcome.get()
  }
}

extension Trait where Self == DatabaseTrait {
  /// An empty database.
  public static var database: Self { DatabaseTrait(migrated: false) }
  /// A database with Cordon's schema.
  public static var migrated: Self { DatabaseTrait(migrated: true) }
}
