import ArgumentParser
import BenchReport

/// Measurements of the broker on the machine they are run on; `ops/bench` builds and calls it.
@main
struct EgressBench: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "EgressBench",
    abstract: "Measures the broker against no broker and against squid, on this machine.",
    discussion: "Exit codes: 0 measured; 2 usage; 3 nothing could be measured; 130 interrupted.",
    subcommands: [EgressCommand.self, ServerCommand.self, BrokerCommand.self])
}
