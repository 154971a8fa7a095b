import CSeccomp
import Glibc
import TestKit

@testable import Kernel

/// What the documented policy says of a call, worked out from its words and not from the filter made of them.
enum PolicyTable {
  enum Answer: Equatable, Sendable {
    case allowed
    case refused(String)
  }

  /// The answer to a call with these arguments.
  static func answer(_ number: Int, _ arguments: [UInt64] = []) throws -> Answer {
    let table = try Self.table.get()
    for rule in table.conditional where rule.number == number {
      let holds = rule.alternatives.contains { comparisons in
        comparisons.allSatisfy { comparison in
          let index = Int(comparison.index)
          return (arguments.indices.contains(index) ? arguments[index] : 0) & comparison.mask == comparison.value
        }
      }
      return holds ? .allowed : .refused("EPERM")
    }
    if let answer = table.unconditional[number] { return answer }
    let unknown = Int(SystemCallPolicy.newestKnown) + 1...Int(SystemCallPolicy.newestAnswered)
    return .refused(unknown.contains(number) ? "ENOSYS" : "EPERM")
  }

  /// The requests that the rule for ioctl lets through.
  static func requests() throws -> Set<UInt64> {
    let rule = SystemCallPolicy.conditional.first { $0.name == "ioctl" }
    return Set((rule?.alternatives ?? []).compactMap { $0.first?.value })
  }

  private struct Table: Sendable {
    var unconditional: [Int: Answer] = [:]
    var conditional: [(number: Int, alternatives: [[SystemCallPolicy.Comparison]])] = []
  }

  private static let table = Result { () throws -> Table in
    var table = Table()
    for group in SystemCallPolicy.allowed { try add(group.names, .allowed, to: &table) }
    // The enumerating job has no grants.
    try add(SystemCallPolicy.localOnly.names, .allowed, to: &table)
    try add(SystemCallPolicy.absent.names, .refused("ENOSYS"), to: &table)
    try add(SystemCallPolicy.watches.names, .refused("ENOSYS"), to: &table)
    try add(SystemCallPolicy.unsupported.names, .refused("EOPNOTSUPP"), to: &table)
    for rule in SystemCallPolicy.conditional {
      if let number = try number(rule.name) { table.conditional.append((number, rule.alternatives)) }
    }
    return table
  }

  private static func add(_ names: String, _ answer: Answer, to table: inout Table) throws {
    for name in names.split(whereSeparator: { $0 == " " || $0 == "\n" }) {
      guard let number = try number(String(name)) else { continue }
      table.unconditional[number] = answer
    }
  }

  /// Nil for a call that this architecture lacks.
  static func number(_ name: String) throws -> Int? {
    let number = seccomp_syscall_resolve_name(name)
    guard number != __NR_SCMP_ERROR else { throw Problem("no call is called \(name)") }
    return number >= 0 ? Int(number) : nil
  }
}
