import ArgumentParser
import Store

struct Migrate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Create or update the schema `cordon`.",
    discussion: """
      Needs a role that may create roles and objects (a superuser, or CREATEROLE and CREATE on the database). Safe
      to run from several machines at once; refused when the database is newer than this binary.
      """)

  @OptionGroup var database: DatabaseOptions
  @Flag(help: "Only say which version the database has and which this binary has.")
  var check = false
  @Flag(help: "Print {\"from\": …, \"to\": …}.")
  var json = false

  func run() async throws {
    try await database.withStore { store in
      if check {
        let version = try await store.databaseVersion()
        Terminal.line(
          json
            ? #"{"database":\#(version),"binary":\#(Store.schemaVersion)}"#
            : "database \(version), binary \(Store.schemaVersion)")
        if version != Store.schemaVersion { throw ExitCode(Failure.Code.environment.rawValue) }
        return
      }
      let quiet = json
      let change = try await store.migrate { if !quiet { Terminal.line($0) } }
      if json {
        Terminal.line(#"{"from":\#(change.from),"to":\#(change.to)}"#)
      } else if change.from == change.to {
        Terminal.line("schema is at version \(change.to)")
      } else {
        Terminal.line("schema went from version \(change.from) to \(change.to)")
      }
    }
  }
}
