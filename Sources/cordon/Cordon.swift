import ArgumentParser

/// The command line. One file a command; each says what it needs and which exit codes it gives.
@main
struct Cordon: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cordon",
    abstract:
      "Runs untrusted jobs from a PostgreSQL queue, each in a fresh sandbox, with a record of who asked and what ran.",
    discussion: """
      Start here, on one machine and as root:
        cordon up --data /var/lib/cordon          a private PostgreSQL, the schema and a worker
        export CORDON_DATABASE_URL=…              the line that `up` prints
        cordon run -- /usr/bin/echo hello         enqueue, stream the output, wait

      Every command finds the database by --database, by CORDON_DATABASE_URL, or by libpq's own settings (PGHOST,
      PGSERVICE, …), in this order.

      Exit codes: 0 success; 1 the job ended otherwise; 2 usage; 3 the environment (database away, host cannot
      confine); 4 refused.
      """,
    subcommands: [
      Up.self, Migrate.self, WorkerCommand.self, Run.self, Enqueue.self, ListJobs.self, Show.self, Logs.self,
      Egress.self, CredentialsGiven.self,
      Artifacts.self, Cancel.self, Snooze.self, DeadLetters.self, QueueCommand.self, ScheduleCommand.self,
      Maintain.self, Policy.self, Principals.self, Revoke.self, Revocations.self, IssuerCommand.self, Workers.self,
      Doctor.self,
    ])

  static func main() async {
    do {
      var command = try parseAsRoot()
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch {
      Failure.exit(error)
    }
  }
}
