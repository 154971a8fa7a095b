import Jobs
import WardenProtocol

/// A policy, which an operator wrote and the database keeps.
enum PolicyDocuments: Fuzzer {
  static var seeds: [[UInt8]] {
    [
      #"{"version":1}"#, #"{"version":1,"waivers":["landlock","uids"]}"#,
      #"{"version":1,"warm":{"python3":{"mode":"interpreter","imports":["json","os.path"]}}}"#,
      #"{"version":1,"warm":{"python3":{"mode":"zygote"}}}"#, #"{"version":2}"#,
    ].map { Array($0.utf8) }
  }

  static var words: [[UInt8]] {
    [
      "version", "waivers", "warm", "python3", "mode", "interpreter", "zygote", "imports",
      "landlock", "cgroup.pids", "\u{301}", "a.b",
    ].map { Array("\"\($0)\"".utf8) }
  }

  static func run(_ bytes: [UInt8]) {
    guard let terms = try? PolicyTerms(document: String(decoding: bytes, as: UTF8.self)) else { return }
    expect(terms.waivers.isSubset(of: PolicyTerms.waivable), "only what can be waived is")
    expect(terms.unwaived(["seccomp"]) == ["seccomp"], "what cannot be waived never is")
    for name in terms.warm.values.flatMap(\.imports) where name.utf8.count <= Bounds.moduleNameBytes {
      expect(CellRuntime.isModuleName(name), "a module that a policy may name is one to the warden: \(name)")
    }
  }
}
