import Foundation
import TestKit

/// Every case, and the list of what they must cover.
enum Catalogue {
  static let filesystem: [AttackCase] = FilesystemCases.all + SharedFileCases.all + OutputCases.all + DiskCases.all
  static let processes: [AttackCase] = ProcessCases.all + ProgramCases.all + ResourceCases.all + FleetCases.processes
  static let kernel: [AttackCase] = CallCases.all + KernelCases.all + HostCases.all + EnumerationCases.all
  static let operation: [AttackCase] = FleetCases.operation + RequestCases.all
  static let network: [AttackCase] = NetworkCases.all + EgressCases.all
  static let credentials: [AttackCase] = CredentialCases.all
  static let all: [AttackCase] = filesystem + processes + kernel + operation + network + credentials

  /// What of the list of attacks concerns a host: its files and outputs, its processes and resources, its kernel, of operations what a
  /// worker does, and of the network what takes a whole system to show. What one part decides by itself, its own tests show.
  static let required = [
    "FS-01", "FS-02", "FS-03", "FS-04", "FS-05", "FS-06", "FS-07", "FS-08", "FS-10", "FS-11", "FS-13", "FS-14", "FS-15",
    "FS-16", "FS-18", "FS-19", "FS-21", "FS-22", "FS-23", "FS-24", "FS-25", "FS-26", "FS-27", "FS-28", "FS-30", "FS-31",
    "FS-32", "FS-33", "FS-35",
    "PR-01", "PR-02", "PR-03", "PR-04", "PR-05", "PR-07", "PR-08", "PR-09", "PR-10", "PR-11", "PR-12", "PR-13", "PR-15",
    "PR-16", "PR-18", "PR-19", "PR-20", "PR-21", "PR-23", "PR-24", "PR-26", "PR-27", "PR-29",
    "KS-01", "KS-02", "KS-03", "KS-04", "KS-05", "KS-06", "KS-07", "KS-08", "KS-09", "KS-10", "KS-11", "KS-12", "KS-13",
    "KS-15", "KS-16", "KS-17", "KS-20", "KS-21", "KS-22", "KS-23", "KS-25", "KS-26", "KS-28", "KS-29",
    "OP-01", "OP-02", "OP-03", "OP-05", "OP-06", "OP-07", "OP-09", "OP-10",
    "NW-01", "NW-02", "NW-03", "NW-05", "NW-06", "NW-10", "NW-11", "NW-12", "NW-13", "NW-15", "NW-17", "NW-21", "NW-22",
    "NW-23", "NW-25", "NW-26", "NW-27", "NW-29", "NW-33", "NW-37", "NW-39",
    "CR-01", "CR-02", "CR-04", "CR-05", "CR-06", "CR-13", "CR-16", "CR-19",
  ]

  /// Cases that the environment variable `CORDON_ATTACKS` names (`FS-01,KS-13`), for a look at single ones and for
  /// `ops/mutate`; all of them otherwise.
  static let selected: [AttackCase] = {
    let concerned = all.filter(AttackRuntime.concerns)
    let possible = WorkerUser.isOrdinary ? concerned.filter { !WorkerUser.leavesOut($0) } : concerned
    guard let wanted = ProcessInfo.processInfo.environment["CORDON_ATTACKS"] else { return possible }
    let ids = Set(wanted.split(separator: ",").map(String.init))
    // A run of nothing passes.
    let unknown = ids.filter { id in !all.contains { $0.id == id || $0.id.prefix(5) == id } }
    precondition(unknown.isEmpty, "CORDON_ATTACKS: no such cases: \(unknown.sorted().joined(separator: ", "))")
    return possible.filter { ids.contains($0.id) || ids.contains(String($0.id.prefix(5))) }
  }()

  static func selected(_ cases: [AttackCase]) -> [AttackCase] {
    let ids = Set(selected.map(\.id))
    return cases.filter { ids.contains($0.id) }
  }
}

/// Entries of the list that no case can show, and why; a part of an entry stands here as well.
enum NotApplicable {
  static let entries: [String: String] = [:]

  /// Parts of covered entries for which there is nothing to attack yet.
  static let parts: [String: String] = [
    "CR-04": "a job is given no placeholders: its worker adds the credential to the request itself",
    "FS-11": "the mode that a job gave is normalised; the record has no field for the original one",
    "FS-22": "artifacts are exported as files of a directory; there is no archive",
    "FS-23": "Cordon unpacks no archive; what a job unpacks, it unpacks inside its cell",
    "FS-24": "an input's digest is taken when it is staged, on a mount that cannot be written; it is not taken again",
    "PR-12": "there is no limit on processor time as such; cpu.max bounds the rate and the time limit ends the job",
    "PR-26": "a cell has a writable file on a disk only where a policy says so, and io.max does not bound it then",
    "KS-29": "there is no tier of virtual machines and no check of the kernel's age; the guarantees say so",
    "OP-02": "the waivers of a policy are shown by StoreTests and WorkerTests; under the default policy there is none",
  ]
}
