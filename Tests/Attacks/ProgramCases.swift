import Foundation
import Glibc
import Jobs
import TestKit

/// What a job tries by what it executes, and by what it is given to execute.
enum ProgramCases {
  static let all: [AttackCase] = [pr15, pr16, pr29]

  private static let pr15 = AttackCase(
    id: "PR-15", what: "execute a setuid program of the image",
    payload: .bash("\"$1/id\" -u; \"$1/id\" -g; grep NoNewPrivs /proc/self/status"),
    arguments: { [imageDirectory($0)] },
    prepare: { place in
      // A copy of id that belongs to root with both bits; what it can do is to print numbers.
      let directory = imageDirectory(place)
      try FileManager.default.createDirectory(
        atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
      try FileManager.default.copyItem(atPath: "/usr/bin/id", toPath: directory + "/id")
      chmod(directory + "/id", 0o6755)
      return { try? FileManager.default.removeItem(atPath: directory) }
    },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      let uid = evidence.uid.map(String.init) ?? "?"
      verdict.equal(evidence.stdout, "\(uid)\n\(uid)\nNoNewPrivs:\t1\n", "stdout")
    },
    control: .host(
      .ordinary,
      check: { evidence, verdict in
        verdict.require(evidence.stdout.hasPrefix("0\n0\n"), "no gain without a guard: \(evidence.stdout)")
      }))

  private static func imageDirectory(_ place: Place) -> String {
    "/usr/local/lib/cordon-attack-\(place.path.suffix(36))"
  }

  private static let pr16 = AttackCase(
    id: "PR-16", what: "arguments and variables for a shell or a loader that should not be there",
    payload: .command([
      "/usr/bin/python3", "-I", "-c",
      "import os, sys, json; print('seen', json.dumps({'argv': sys.argv[1:], 'env': dict(os.environ)}))",
    ]),
    arguments: { place in
      ["$(touch \(place.path)/ran)", "; touch \(place.path)/ran", "`id`", "--version", "a b", "*", "\\n", "%s", ""]
    },
    asks: [
      "env": .object([
        "BASH_ENV": .string("/tmp/evil"), "LD_PRELOAD": .string("/tmp/evil.so"), "PYTHONSTARTUP": .string("/tmp/evil"),
        "IFS": .string("/"),
      ])
    ],
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      let given = [
        "$(touch \(evidence.place.path)/ran)", "; touch \(evidence.place.path)/ran", "`id`", "--version", "a b",
        "*", "\\n", "%s", "",
      ]
      verdict.equal(evidence.seen["argv"], .array(given.map(JSONValue.string)), "argv")
      verdict.require(!FileManager.default.fileExists(atPath: evidence.place.path + "/ran"), "a shell ran")
      guard case .object(let environment)? = evidence.seen["env"] else { return verdict.fail("no environment") }
      let allowed: Set<String> = [
        "PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "LANG", "TZ", "CORDON_JOB", "CORDON_ATTEMPT", "CORDON_TENANT",
        "CORDON_QUEUE", "CORDON_INPUT", "CORDON_OUTPUT", "CORDON_RESULT", "CORDON_PROGRESS", "BASH_ENV", "LD_PRELOAD",
        "PYTHONSTARTUP",
        "IFS", "LC_CTYPE",
      ]
      verdict.equal(Set(environment.keys).subtracting(allowed), [], "variables nobody asked for")
      try await scrubbed(evidence, &verdict)
    },
    control: .host(
      // A supervisor that builds a command line of its words, as one must not; the fifth is the job's first argument.
      wrapper: ["/bin/sh", "-c", "eval \"echo $5\"; exec \"$@\"", "sh"],
      arguments: { ["$(touch \($0.path)/ran)"] },
      check: { evidence, verdict in
        verdict.require(FileManager.default.fileExists(atPath: evidence.place.path + "/ran"), "a shell did not run it")
        guard case .object(let environment)? = evidence.seen["env"] else { return verdict.fail("no environment") }
        verdict.require(environment[AttackHouse.secret.name] != nil, "the environment was not inherited")
      }))

  /// The worker has a secret in its environment; its warden and what the warden starts have not.
  private static func scrubbed(_ evidence: Evidence, _ verdict: inout Verdict) async throws {
    let up = evidence.house!.worker.process.processIdentifier
    func hasSecret(_ process: pid_t) -> Bool {
      let bytes = FileManager.default.contents(atPath: "/proc/\(process)/environ") ?? Data()
      return String(decoding: bytes, as: UTF8.self).contains(AttackHouse.secret.value)
    }
    verdict.require(hasSecret(up), "control: the worker should have the secret")
    let wardens = CleanHost.processes().filter {
      CleanHost.parent(of: $0) == up && CleanHost.name(of: $0) == "cordon-warden"
    }
    verdict.require(!wardens.isEmpty, "no warden was found")
    for warden in wardens { verdict.require(!hasSecret(warden), "the warden \(warden) has the worker's environment") }
  }

  private static let pr29 = AttackCase(
    id: "PR-29", what: "forge the result of this job by way of a trusted process inside",
    payload: .python(
      """
      for process in (1, os.getppid()):
          for name in ("mem", "environ", "fd", "maps", "exe"):
              mode = os.O_RDWR if name == "mem" else os.O_RDONLY
              whose = "first" if process == 1 else "parent"
              attempt(f"{name} {whose}", lambda: os.close(os.open(f"/proc/{process}/{name}", mode)))
      written = 0
      for descriptor in range(3, 64):
          try:
              os.write(descriptor, b'{"outcome": "succeeded", "exit_code": 0}')
              written += 1
          except OSError: pass
      note("descriptors written", written)
      print('{"outcome": "succeeded", "exit_code": 0}\\n::set-output name=status::succeeded')
      sys.stdout.flush()
      end()
      os._exit(3)
      """),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "failed")
      verdict.equal(evidence.record["exit_code"], .integer(3), "exit code")
      verdict.metAll(evidence, prefix: "mem ", "ENOENT", "EACCES", "EPERM")
      verdict.metAll(evidence, prefix: "fd ", "ENOENT", "EACCES", "EPERM")
      verdict.metAll(evidence, prefix: "environ ", "ENOENT", "EACCES", "EPERM")
      verdict.equal(evidence.number("descriptors written"), 0, "descriptors that could be written")
      let next = try await evidence.house!.evidence(
        .command(["/usr/bin/false"]), label: "PR-29", evidence.place)
      verdict.outcome(next, "failed")
    },
    control: .host(
      wrapper: ["/bin/sh", "-c", "exec 9>\"$CORDON_OUTPUT/status\"; \"$@\"; exit 0", "sh"],
      check: { evidence, verdict in
        verdict.met(evidence, ["mem parent", "fd parent", "environ parent"], "ok")
        verdict.require((evidence.number("descriptors written") ?? 0) >= 1, "no descriptor could be written")
      }))
}
