import ArgumentParser

struct Policy: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show the policy in force, or put another one in force.",
    discussion: """
      A policy is one JSON document: what a job gets when it asks for nothing, what it may ask for at most, which
      runtimes it may use, and which controls a worker may lack. `cordon policy show` prints one to start from.
      """,
    subcommands: [PolicyShow.self, PolicySet.self])
}
