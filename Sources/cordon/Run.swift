import ArgumentParser
import Foundation
import Jobs
import Store

struct Run: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Enqueue a job, stream its output, wait for its end.",
    usage: "cordon run [options] (FILE [ARGS…] | -- ARGV…)",
    discussion: """
      Examples:
        cordon run -- /usr/bin/echo hello
        cordon run --timeout 1m --memory 512MiB --input rates.csv=data/rates.csv reconcile.py
        cordon run --runtime bash --code 'echo $RANDOM > "$CORDON_OUTPUT/number.txt"'

      The job's stdout and stderr go to ours: byte for byte into a file or pipe, escaped onto a terminal. A summary
      follows on stderr. Ctrl-C cancels the job; a second one leaves it.

      Exit codes: 0 succeeded; 1 the job ended otherwise; 2 usage; 3 environment; 4 refused.
      """)

  @OptionGroup var database: DatabaseOptions
  @Flag(help: "Print the job's record as JSON and nothing else.")
  var json = false
  @OptionGroup var specification: SpecificationOptions

  func run() async throws {
    try specification.rejectStrayOption(of: Self.self)
    try await database.withStore { store in
      let text = try await specification.specification(store: store)
      let enqueued = try await store.enqueue(
        queue: specification.queue, specification: text, key: specification.key, runAt: nil,
        priority: specification.priority, lane: specification.lane,
        after: try specification.parents(), onFailure: specification.onFailure)
      // From here on a signal cancels the job; before there is one, it ends this command as it ends any.
      let signals = Signals()
      defer { signals.cancel() }
      let received = signals.received
      let watcher = Task {
        var count = 0
        for await _ in received {
          count += 1
          if count > 1 {
            Terminal.errorLine("cordon: left; job \(enqueued.job) goes on being cancelled")
            Foundation.exit(Failure.Code.job.rawValue)
          }
          Terminal.errorLine("cordon: cancelling job \(enqueued.job) (Ctrl-C again to leave)")
          do {
            _ = try await store.cancel(enqueued.job)
          } catch {
            Terminal.errorLine("cordon: cancel: \(Terminal.escape("\(error)"))")
          }
        }
      }
      defer { watcher.cancel() }
      let record = try await follow(enqueued.job, store: store)
      if json {
        Terminal.line(try await store.record(enqueued.job, attempt: nil))
      } else {
        for line in RecordView(record).summary(terminal: Terminal.errorIsTerminal) { Terminal.errorLine(line) }
      }
      try throwUnlessSucceeded(record)
    }
  }

  private func follow(_ job: JobID, store: Store) async throws -> JSONValue {
    var follower = Follower(store: store, job: job)
    let quiet = json
    follower.output = { chunk in
      guard !quiet else { return }
      Terminal.jobBytes(chunk.bytes, to: chunk.stream == "stderr" ? STDERR_FILENO : STDOUT_FILENO)
    }
    follower.progress = { progress in
      switch progress {
      case .attempt(let number) where number > 1:
        Terminal.errorLine("cordon: attempt \(number) begins; the one before was lost with its worker")
      case .attempt: break
      case .waiting:
        Terminal.errorLine("cordon: job \(job) is still queued; does a worker serve its queue? (cordon worker)")
      }
    }
    return try await follower.untilFinished()
  }

  private func throwUnlessSucceeded(_ record: JSONValue) throws {
    switch record["outcome"]?.string {
    case "succeeded": return
    case "refused": throw ExitCode(Failure.Code.refused.rawValue)
    default: throw ExitCode(Failure.Code.job.rawValue)
    }
  }
}
