import ArgumentParser
import Foundation
import Store

struct Revoke: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The kill switch: stop a tenant, a principal, a policy, a program, a worker or a job.",
    discussion: """
      Needs a member of cordon_operator. From then on nothing of it is accepted or starts; what waits is held. What runs
      goes on to its end (drain), stands still (freeze), or is ended at once and nothing of it published (kill).
      `cordon revocations` lists and lifts.
      """)

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "tenant, principal, policy, code, credential, worker or job.")
  var kind: Store.RevocationKind
  @Argument(help: "A tenant, a role, a digest, a worker's name or number, a job's id.")
  var target: String
  @Option(help: "drain, freeze or kill.")
  var mode: Store.RevocationMode
  @Option(help: "Why; it stands in the record of every attempt that is ended.")
  var reason: String
  @Flag(help: "Print {\"recalled\": …, \"frozen\": …, \"killed\": …}.")
  var json = false

  /// How often the command looks once more for what was locked, and how long it waits before each look.
  private static let looks = 3
  private static let pause = Duration.milliseconds(300)

  func run() async throws {
    let (recalled, frozen, killed) = try await database.withStore { store in
      let first = try await store.revoke(kind, target, mode: mode, reason: reason)
      if !first.isKnown {
        Terminal.errorLine("cordon: there is no \(kind.rawValue) '\(Terminal.escape(target))' yet; is it spelt right?")
      }
      var (recalled, killed) = (first.recalled, first.killed)
      // What was being claimed, started or cancelled at that moment.
      for _ in 0..<Self.looks {
        try await Task.sleep(for: Self.pause)
        let more = try await store.enforceRevocations()
        recalled += more.recalled
        killed += more.killed
      }
      return (recalled, first.frozen, killed)
    }
    Terminal.line(
      json
        ? #"{"recalled":\#(recalled),"frozen":\#(frozen),"killed":\#(killed)}"#
        : "\(recalled) taken back before they began, \(frozen) frozen, \(killed) ended")
  }
}

struct Revocations: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "What is revoked.", subcommands: [RevocationList.self, RevocationLift.self],
    defaultSubcommand: RevocationList.self)
}

struct RevocationList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "What is revoked, since when and why; for operators and auditors.")

  @OptionGroup var database: DatabaseOptions
  @Flag(help: "All that was decided, the newest first.")
  var history = false
  @Flag(help: "One JSON array.")
  var json = false

  func run() async throws {
    try await database.withStore { store in
      try Table.show(
        try await store.revocations(everything: history), json: json,
        columns: [
          ("KIND", "kind"), ("TARGET", "target"), ("MODE", "mode"), ("SINCE", "since"), ("BY", "set_by"),
          ("WHY", "reason"),
        ])
    }
  }
}

struct RevocationLift: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lift", abstract: "Lift a revocation: what is frozen goes on, what is held is judged anew.")

  @OptionGroup var database: DatabaseOptions
  @Argument var kind: Store.RevocationKind
  @Argument var target: String
  @Option(help: "Why, for the history.")
  var reason = ""

  func run() async throws {
    guard try await database.withStore({ try await $0.liftRevocation(kind, target, reason: reason) }) else {
      throw Failure(.usage, "\(kind.rawValue): '\(target)' is not revoked; see cordon revocations")
    }
  }
}

extension Store.RevocationKind: ExpressibleByArgument {}
extension Store.RevocationMode: ExpressibleByArgument {}
