import ArgumentParser
import Jobs
import Store

struct CredentialsGiven: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "credentials", abstract: "List the credentials that attempts have been given; never the secrets.",
    discussion: """
      Without a job, for operators and auditors: what can be used at this moment. LEFT is a login whose attempt is over and that no
      worker has ended on its server yet. With a job: what each of its attempts was given, in which version, and until when.
      `cordon revoke credential NAME --mode kill` ends what runs with one.
      """)

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "A job's id.")
  var job: String?
  @Flag(help: "One JSON array.")
  var json = false

  func run() async throws {
    let id = try job.map(jobID)
    try await database.withStore { store in
      if let id {
        try Table.show(
          try await store.credentials(id), json: json,
          columns: [
            ("ATTEMPT", "attempt"), ("CREDENTIAL", "credential"), ("KIND", "kind"), ("VERSION", "version"),
            ("GIVEN", "given_at"), ("ENDED", "ended_at"), ("ALIVE", "alive"),
          ])
      } else {
        try Table.show(
          try await store.liveCredentials(), json: json,
          columns: [
            ("JOB", "job"), ("ATTEMPT", "attempt"), ("TENANT", "tenant"), ("WORKER", "worker"),
            ("CREDENTIAL", "credential"),
            ("KIND", "kind"), ("VERSION", "version"), ("GIVEN", "given_at"), ("LEFT", "left"),
          ])
      }
    }
  }
}
