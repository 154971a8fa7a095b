import Foundation
import Jobs
import TestKit

/// What a producer asks for to be confined less.
enum RequestCases {
  static let all: [AttackCase] = [op07]

  private static let asked: [(String, String)] = [
    ("debug", #"{"runtime":"exec","argv":["/usr/bin/id"],"debug":true}"#),
    ("sandbox", #"{"runtime":"exec","argv":["/usr/bin/id"],"sandbox":false}"#),
    ("privileged", #"{"runtime":"exec","argv":["/usr/bin/id"],"privileged":true}"#),
    ("mounts", #"{"runtime":"exec","argv":["/usr/bin/id"],"mounts":["/:/host"]}"#),
    ("network", #"{"runtime":"exec","argv":["/usr/bin/id"],"network":"host"}"#),
    ("user", #"{"runtime":"exec","argv":["/usr/bin/id"],"user":0}"#),
    ("grants", #"{"runtime":"exec","argv":["/usr/bin/id"],"grants":["network"]}"#),
    ("waivers", #"{"runtime":"exec","argv":["/usr/bin/id"],"waivers":["seccomp"]}"#),
    ("policy", #"{"runtime":"exec","argv":["/usr/bin/id"],"policy":"none"}"#),
    ("limits.seccomp", #"{"runtime":"exec","argv":["/usr/bin/id"],"limits":{"seccomp":"off"}}"#),
    ("limits.memory", #"{"runtime":"exec","argv":["/usr/bin/id"],"limits":{"memory":"900GiB"}}"#),
    ("limits.pids", #"{"runtime":"exec","argv":["/usr/bin/id"],"limits":{"pids":-1}}"#),
    ("env.CORDON_JOB", #"{"runtime":"exec","argv":["/usr/bin/id"],"env":{"CORDON_JOB":"x"}}"#),
    ("inputs", #"{"runtime":"exec","argv":["/usr/bin/id"],"inputs":{"a":{"path":"../../etc/shadow"}}}"#),
    ("inputs", #"{"runtime":"exec","argv":["/usr/bin/id"],"inputs":{"a":{"path":"/etc/shadow"}}}"#),
    ("inputs", #"{"runtime":"exec","argv":["/usr/bin/id"],"inputs":{"../a":{"text":"x"}}}"#),
    ("runtime", #"{"runtime":"host","argv":["/usr/bin/id"]}"#),
  ]

  private static let op07 = AttackCase(
    id: "OP-07", what: "ask for no sandbox, a debugger's one, mounts, the host's network, root",
    payload: .command(["/usr/bin/true"]),
    expect: { evidence, verdict in
      let tool = evidence.house!.house.tool
      for (field, document) in asked {
        let answer = try await tool.run(["enqueue", "--specification", "-"], stdin: Array(document.utf8))
        verdict.require([2, 4].contains(answer.status), "\(field) is taken: \(answer.text)")
        verdict.require(answer.stdout.isEmpty, "\(field) made a job")
        let isNamed = answer.stderr.contains(field.split(separator: ".").last ?? "")
        verdict.require(isNamed, "\(field) is not named: \(answer.stderr)")
      }
      // The control: the same request without the wish is taken.
      let document = #"{"runtime":"exec","argv":["/usr/bin/id"],"labels":{"attack":"OP-07"}}"#
      let answer = try await tool.run(["enqueue", "--specification", "-"], stdin: Array(document.utf8))
      verdict.equal(answer.status, 0, "control: status without the wish: \(answer.stderr)")
      let job = answer.text.trimmingCharacters(in: .whitespacesAndNewlines)
      verdict.equal(try await evidence.house!.finished(job)["outcome"], .string("succeeded"), "control: the outcome")
    }, control: .within)
}
