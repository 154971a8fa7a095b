import Foundation
import TestKit

/// Whose worker is attacked: root's, or with `CORDON_ATTACK_WORKER=ordinary` that of an ordinary user in a delegated
/// cgroup, who has one uid for all cells and serves under a policy that waives `uids`.
enum WorkerUser {
  static let isOrdinary: Bool = {
    switch ProcessInfo.processInfo.environment["CORDON_ATTACK_WORKER"] {
    case nil: return false
    case "ordinary": return true
    case let other?: preconditionFailure("CORDON_ATTACK_WORKER is '\(other)', not 'ordinary'")
    }
  }()

  static let id: uid_t = isOrdinary ? OrdinaryUser.id : 0

  /// Controls that every record must say to be waived.
  static let waivers = isOrdinary ? ["uids"] : []

  /// Cases that an ordinary user's worker is not put to, and why.
  static let leftOut = [
    "KS-28": "it is the doctor's, who is asked as root; OrdinaryUserJourney asks as an ordinary user",
    "OP-01": "it is the doctor's, too",
    "OP-02": "it is the doctor's, too",
    "FS-18b": "only root can mount a filesystem in a file",
    "FS-19b": "only root can mount a filesystem in a file",
    "FS-35c": "only root can mount a filesystem in a file",
    "OP-07": "its requests are refused before there is a worker",
  ]

  static func leavesOut(_ attack: AttackCase) -> Bool {
    leftOut[attack.id] != nil
  }

  /// What of a case is not judged, and why.
  static let partsLeftOut = [
    "PR-08": "that process 1 refuses signals; of the job's own uid it may take them, without effect",
    "PR-09": "that the cell's first process has a uid of its own; without root all have one",
  ]

  /// Said once in a run, by name.
  static func printLeftOut() {
    for (id, reason) in leftOut.merging(partsLeftOut, uniquingKeysWith: { $1 }).sorted(by: { $0.key < $1.key }) {
      print("left out: \(id): \(reason)")
    }
  }
}
