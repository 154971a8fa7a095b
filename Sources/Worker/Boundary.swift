import Jobs
import Sandbox

/// What a worker's own look at its host leads to before it registers.
struct Boundary: Equatable {
  /// Controls that do not hold here and that the policy in force waives, in order.
  let waived: [String]

  /// - Throws: `WorkerError.cannotConfine` with every finding that does not hold and is not waived.
  init(findings: [Finding], terms: PolicyTerms) throws(WorkerError) {
    let missing = findings.filter { !$0.holds }
    let unwaived = Set(terms.unwaived(missing.map(\.control)))
    guard unwaived.isEmpty else {
      throw .cannotConfine(missing.filter { unwaived.contains($0.control) })
    }
    waived = Set(missing.map(\.control)).sorted()
  }
}

/// Why a worker does not serve.
public enum WorkerError: Error, CustomStringConvertible {
  /// Controls this host does not enforce, each with its fix.
  case cannotConfine([Finding])
  /// A control stopped holding while the worker served.
  case stoppedHolding(Finding)
  /// The warden died while the worker served.
  case wardenIsGone
  /// An operator revoked this worker, or its role, or its time is over; in the database's words.
  case revoked(String, fix: String?)
  /// The database lets this worker's login in no more; in its words.
  case barred(String, fix: String?)

  public var description: String {
    switch self {
    case .barred(let words, let fix):
      "the database lets this worker in no more: \(words) (fix: "
        + "\(fix ?? "cordon workers invite, remove the identity file, and start with --join TOKEN-FILE"))"
    case .revoked(let words, let fix): "\(words) (fix: \(fix ?? "cordon revocations lift, by an operator"))"
    case .wardenIsGone: "the warden ended while the worker served; what ran was given back (its stderr says why)"
    case .stoppedHolding(let finding):
      "a control stopped holding while the worker served, which has drained: \(finding.line)"
    case .cannotConfine(let findings):
      "this host cannot confine: " + findings.map(\.line).joined(separator: "; ")
    }
  }
}

extension Finding {
  /// The control, what was seen, and everything an operator can do about it.
  var line: String {
    let fixes = [fix, PolicyTerms.waiving(control)].compactMap { $0 }
    let advice = fixes.isEmpty ? "" : " (fix: \(fixes.joined(separator: ", or ")))"
    return "\(control): \(detail)\(advice)"
  }
}
