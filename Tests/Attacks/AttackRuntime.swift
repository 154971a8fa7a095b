import Foundation
import Jobs
import TestKit

/// How the interpreters of jobs begin: each executed, or with `CORDON_ATTACK_RUNTIME=zygote` forked from one that waits,
/// under a policy that says so. Then only the cases in Python are put to the worker.
enum AttackRuntime {
  static let isZygote: Bool = {
    switch ProcessInfo.processInfo.environment["CORDON_ATTACK_RUNTIME"] {
    case nil: return false
    case "zygote": return true
    case let other?: preconditionFailure("CORDON_ATTACK_RUNTIME is '\(other)', not 'zygote'")
    }
  }()

  /// Begins a program that says first of all what its process executes: an interpreter that was forked says this.
  static let saying = isZygote ? "import os\nprint('begun as ' + os.readlink('/proc/self/exe'), flush=True)\n" : ""
  private static let forked = "begun as /memfd:cordon-warden (deleted)\n"

  /// Cases whose program is not one for the interpreter as the policy starts it, or judges how it was started.
  static func concerns(_ attack: AttackCase) -> Bool {
    guard isZygote else { return true }
    // With grants an interpreter is never forked: TLS wants random numbers of its own.
    return attack.payload.isPython && attack.asks["env"] == nil && attack.asks["grants"] == nil
  }

  /// Puts the policy in force, and waits until there is an interpreter to fork from.
  static func prepare(_ house: AttackHouse) async throws {
    guard isZygote else { return }
    try await house.house.amendPolicy(#""warm": {"python3": {"mode": "zygote", "imports": ["json"]}}"#)
    let end = ContinuousClock.now + Duration.seconds(30).patiently
    while true {
      let place = try Place()
      defer { place.remove() }
      let evidence = try await house.evidence(
        try Payload.python("").specification([], label: "zygote", asks: [:]), place)
      if problem(evidence) == nil { return }
      guard ContinuousClock.now < end else { throw Problem("no interpreter is forked: \(evidence.record)") }
    }
  }

  /// Why the evidence is not of a job in a forked interpreter, where it should be.
  static func problem(_ evidence: Evidence) -> String? {
    guard isZygote, evidence.outcome != "refused", !evidence.stdout.hasPrefix(forked) else { return nil }
    return "it was not forked: \(evidence.stdout.prefix(80))"
  }
}

extension Payload {
  var isPython: Bool {
    switch self {
    case .python, .egress: true
    case .file(let name): name.hasSuffix(".py")
    case .bash, .command: false
    }
  }
}
