import Foundation
import Jobs
import TestKit

/// Hosts that cannot confine, and what no host can promise.
enum HostCases {
  static let all: [AttackCase] = [ks28, ks29]

  /// Runs the doctor in a changed world, after it was well in the real one.
  static func doctor(_ wrapper: String, _ verdict: inout Verdict, names control: String) async throws {
    let script = "cordon=$1; warden=$2; cell=$3; \(wrapper)"
    let arguments = try [Tool.executable, buildProduct(named: "cordon-warden"), buildProduct(named: "cordon-cell")]
    let answer = try await HostCommand.run(script, arguments)
    verdict.equal(answer.status, 3, "exit code of the doctor: \(answer.output.suffix(500))")
    let lines = answer.output.split(separator: "\n").filter { $0.hasPrefix("{") }
    guard let line = lines.last, let report = try? JSONDecoder().decode(JSONValue.self, from: Data(line.utf8)) else {
      return verdict.fail("the doctor printed no report: \(answer.output)")
    }
    verdict.equal(report["ready"], .bool(false), "ready")
    let failing = (report["findings"]?.array ?? []).filter { $0["holds"] == .bool(false) }
    verdict.require(
      failing.contains { "\($0["control"]?.string ?? ""): \($0["detail"]?.string ?? "")".contains(control) },
      "\(control) is not named: \(failing)")
    for finding in failing {
      verdict.require(!(finding["fix"]?.string ?? "").isEmpty, "no fix for \(finding["control"]?.string ?? "?")")
    }
  }

  private static let ordinary = """
    place=$(mktemp -d /var/tmp/cordon-attack-doctor-XXXXXX); trap 'rm -rf "$place"' EXIT
    chmod 755 "$place"; cp "$cordon" "$warden" "$cell" "$place"; cd /
    """

  private static let ks28 = AttackCase(
    id: "KS-28", what: "serve where no cgroup is delegated, or user namespaces are not to be had",
    payload: .command(["/usr/bin/true"]),
    expect: { evidence, verdict in
      try await doctor(
        ordinary + "\nsetpriv --reuid 64243 --regid 64243 --clear-groups \"$place/cordon\" doctor --json",
        &verdict, names: "cgroup")
      // No user namespaces left to make: the limit is that of a namespace of the test's own.
      try await doctor(
        ordinary + """

          unshare --user --map-root-user --mount bash -c 'echo 0 > /proc/sys/user/max_user_namespaces
            exec setpriv --bounding-set -all --inh-caps -all "$0" doctor --json' "$place/cordon"
          """,
        &verdict, names: "namespaces")
    },
    control: .host(check: { _, verdict in
      let answer = try await HostCommand.run("\"$1\" doctor --json", try Tool.executable)
      verdict.equal(answer.status, 0, "the doctor in the real world: \(answer.output)")
    }))

  private static let ks29 = AttackCase(
    id: "KS-29", what: "a flaw of the kernel itself: said to be no goal",
    payload: .command(["/usr/bin/true"]),
    expect: { evidence, verdict in
      let page = try String(contentsOf: TestKit.repository.appending(path: "ops/docs/guarantees.md"), encoding: .utf8)
      let promised = page.components(separatedBy: "## Not promised")
      verdict.require(
        promised.count == 2 && promised[1].contains("A flaw in the kernel itself"), "the page does not say so")
      verdict.require(promised[1].contains("Keep the kernel patched"), "the page gives no advice")
    }, control: .within)
}
