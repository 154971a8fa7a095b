import ArgumentParser
import BenchReport

/// Measurements of the sandbox on the machine they are run on; `ops/bench` builds and calls it.
@main
struct SandboxBench: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "SandboxBench",
    abstract: "Measures the sandbox against plain processes and against its peers, on this machine.",
    discussion: """
      Exit codes: 0 measured; 1 the soak found a leak; 2 usage; 3 nothing could be measured; 130 interrupted.
      """,
    subcommands: [SandboxCommand.self, SoakCommand.self])
}
