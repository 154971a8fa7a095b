import ArgumentParser
import Foundation
import Jobs
import Sandbox
import Store

struct Doctor: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say what this host can enforce, and the fix where it cannot.",
    discussion: """
      Runs a real cell and looks from inside; where none can be made, names the settings of this host that are known
      to be in the way. Exit code 0 when a worker would serve here, 3 otherwise. Where a database is named (--database
      or CORDON_DATABASE_URL), its schema is checked, too, and what its policy waives counts as waived.
      """)

  @OptionGroup var database: DatabaseOptions
  @Option(name: .customLong("warden"), help: "The cordon-warden executable. Default: beside this one.")
  var warden: String?
  @Option(name: .customLong("cgroup-base"), help: "A delegated cgroup, as a path beneath each hierarchy's root.")
  var cgroupBase: String?
  @Flag(help: "One JSON object.")
  var json = false

  func run() async throws {
    let scratch = FileManager.default.temporaryDirectory.appending(path: "cordon-doctor-\(UUID().uuidString)")
    try Installation.makeDirectory(scratch.path)
    defer { try? FileManager.default.removeItem(at: scratch) }
    var findings = await HostReport.doctor(
      SandboxConfiguration(
        wardenPath: try warden ?? Installation.warden(), stateDirectory: scratch.path + "/state",
        approvedRoot: scratch.path + "/artifacts", cgroupBase: cgroupBase))
    var terms = PolicyTerms()
    if !database.connection.isEmpty {
      findings.append(await schema())
      terms = await termsInForce()
    }
    let unwaived = Set(terms.unwaived(findings.filter { !$0.holds && $0.isRequired }.map(\.control)))
    let healthy = unwaived.isEmpty
    if json {
      let rows = findings.map { finding in
        JSONValue.object([
          "control": .string(finding.control), "holds": .bool(finding.holds), "detail": .string(finding.detail),
          "waived": .bool(!finding.holds && finding.isRequired && !unwaived.contains(finding.control)),
          "required": .bool(finding.isRequired),
          "fix": Self.advice(finding).map(JSONValue.string) ?? .null,
        ])
      }
      let report = JSONValue.object(["ready": .bool(healthy), "findings": .array(rows)])
      Terminal.line(String(decoding: try JSONEncoder().encode(report), as: UTF8.self))
    } else {
      for finding in findings {
        let mark =
          if finding.holds {
            Terminal.styled("holds   ", .good)
          } else if !finding.isRequired {
            Terminal.styled("without ", .bad)
          } else if unwaived.contains(finding.control) {
            Terminal.styled("MISSING ", .bad)
          } else {
            Terminal.styled("WAIVED  ", .bad)
          }
        Terminal.line("\(mark)  \(Terminal.escape(finding.control)): \(Terminal.escape(finding.detail))")
        if let fix = Self.advice(finding) { Terminal.line("          fix: \(Terminal.escape(fix))") }
      }
      Terminal.line(healthy ? "This host can confine." : "This host cannot confine; a worker would refuse to serve.")
    }
    if !healthy { throw ExitCode(Failure.Code.environment.rawValue) }
  }

  private static func advice(_ finding: Finding) -> String? {
    guard !finding.holds else { return nil }
    let ways = [finding.fix, PolicyTerms.waiving(finding.control)].compactMap { $0 }
    return ways.isEmpty ? nil : ways.joined(separator: ", or ")
  }

  /// None where this role may not see the policy: what it may waive is then not counted as waived.
  private func termsInForce() async -> PolicyTerms {
    let policy = try? await database.withStore { try await $0.policyInForce() }
    return policy.flatMap { try? PolicyTerms(document: $0.document) } ?? PolicyTerms()
  }

  private func schema() async -> Finding {
    do {
      try await database.withStore { try await $0.requireCurrentSchema() }
      return Finding(control: "database", holds: true, detail: "schema version \(Store.schemaVersion)", fix: nil)
    } catch {
      return Finding(control: "database", holds: false, detail: Failure(error).description, fix: "cordon migrate")
    }
  }
}
