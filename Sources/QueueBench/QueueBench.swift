import ArgumentParser
import BenchReport

/// Measurements of the queue on the machine they are run on; `ops/bench` builds and calls it.
@main
struct QueueBench: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "QueueBench",
    abstract: "Measures the queue against its floor and against its peers, on this machine.",
    discussion: "Exit codes: 0 measured; 2 usage; 3 nothing could be measured; 130 interrupted.",
    subcommands: [QueueCommand.self])
}
