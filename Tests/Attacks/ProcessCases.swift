import Foundation
import Glibc
import Jobs
import TestKit

/// What a job tries on processes: its own, its supervisor's, the host's.
enum ProcessCases {
  static let all: [AttackCase] = [pr03, pr04, pr05, pr07, pr08, pr09, pr13, pr13b, pr21, pr23]

  private static let pr03 = AttackCase(
    id: "PR-03", what: "a daemon that forked twice and has a session of its own",
    payload: .bash(
      """
      (setsid bash -c "touch $TMPDIR/up; exec sleep $1 >/dev/null 2>&1 <&-" &)
      until [ -e $TMPDIR/up ]; do sleep 0.05; done; sleep 0.2; echo ok
      """),
    arguments: { [$0.marker.text] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.equal(evidence.stdout, "ok\n", "stdout")
      let marker = evidence.place.marker
      do {
        try await eventually("the daemon is dead", limit: CleanHost.limit) { !marker.exists }
      } catch { verdict.fail("the daemon lives") }
    },
    control: .host(check: { evidence, verdict in
      let marker = evidence.place.marker
      do { try await eventually("the daemon is there") { marker.exists } } catch {
        verdict.fail("the daemon did not outlive its program")
      }
      evidence.place.marker.end()
    }))

  private static let orphan = Payload.bash(
    "echo before; echo error >&2; (setsid sleep $1 &); date +'seen {\"exit\": %s.%N}'")

  private static let pr04 = AttackCase(
    id: "PR-04", what: "an orphan that holds stdout and stderr", payload: orphan,
    arguments: { _ in ["4"] },
    expect: { evidence, verdict in
      var best = Double.infinity
      // Noise of the host only adds; the least of three is the sandbox's own.
      var found = evidence
      for _ in 0..<3 {
        verdict.outcome(found, "succeeded")
        verdict.require(found.stdout.hasPrefix("before\n"), "stdout: \(found.stdout)")
        verdict.equal(found.stderr, "error\n", "stderr")
        let finished = try time(ofRecord: found.record["finished_at"]).timeIntervalSince1970
        best = min(best, finished - (found.number("exit") ?? 0))
        if best <= 0.5 * patience { return }
        found = try await evidence.house!.evidence(orphan, ["4"], label: "PR-04", evidence.place)
      }
      verdict.fail("recorded \(best) s after the main process's end")
    },
    control: .host(check: { evidence, verdict in
      let answer = try await HostCommand.run(
        "s=$(date +%s%N); bash \"$1/job/main.sh\" 2 | cat >/dev/null; echo $(( ($(date +%s%N) - s) / 1000000 ))",
        evidence.scratch)
      verdict.require(
        (Int(answer.output.split(separator: "\n").last ?? "") ?? 0) > 1_900, "a reader to the end: \(answer.output)")
    }), isAlone: true)

  /// Seconds in which the program of PR-05 has blocked everything.
  private static let getReady = Int(3 * patience)

  private static let pr05 = AttackCase(
    id: "PR-05", what: "ignore SIGTERM and block every signal",
    payload: .python(
      """
      import signal, threading
      signal.pthread_sigmask(signal.SIG_BLOCK, set(range(1, 65)) - {32, 33})
      for number in set(range(1, 65)) - {9, 19, 32, 33}: signal.signal(number, signal.SIG_IGN)
      note("blocked", "ok")
      save()
      if os.fork() == 0:
          os.setsid()
          os.execv("/usr/bin/sleep", ["sleep", sys.argv[1]])
      while True: time.sleep(60)
      """), arguments: { [$0.marker.text] },
    asks: ["limits": .object(["wall": .string("\(getReady)s"), "grace": .string("300ms")])],
    expect: { evidence, verdict in
      verdict.outcome(evidence, "timed_out")
      verdict.met(evidence, ["blocked"], "ok")
      verdict.require(!evidence.place.marker.exists, "a process of the job lives")
      verdict.require((evidence.record["usage"]?["wall_seconds"]?.double ?? 999) < 8 * patience, "it lived too long")
    },
    control: .host(
      wrapper: ["/usr/bin/timeout", "--preserve-status", "-s", "TERM", "-k", "3", "\(getReady)"],
      check: { evidence, verdict in
        // Nothing but SIGKILL after the grace ended it, and that not what it had started.
        verdict.equal(evidence.exit, 9, "the signal that ended it")
        verdict.require(evidence.place.marker.exists, "its child died with it")
        evidence.place.marker.end()
      }))

  private static let pr07 = AttackCase(
    id: "PR-07", what: "kill everything there is",
    payload: .python(
      """
      child = os.fork()
      if child == 0: time.sleep(60)
      time.sleep(0.1)
      attempt("all", lambda: os.kill(-1, 9))
      note("child", os.waitpid(child, 0)[1] & 127)
      attempt("group", lambda: os.killpg(os.getpgid(0), 0))
      """),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.met(evidence, ["all"], "ok")
      verdict.equal(evidence.number("child"), 9, "the signal that ended its own child")
      // Another process of the same user, and the supervisor, are there all the same.
      let host = try await evidence.house!.evidence(
        .command(["/usr/bin/echo"]), ["well"], label: "PR-07", evidence.place)
      verdict.equal(host.stdout, "well\n", "the next job")
    },
    control: .host(
      wrapper: [
        // The supervisor says when it is that user: until then it is root's, and no signal of the payload reaches it.
        "/usr/bin/unshare", "--pid", "--fork", "--kill-child", "/usr/bin/bash", "-c",
        """
        coproc supervisor { exec setpriv --reuid 64243 --clear-groups bash -c 'echo ready; exec sleep 60'; }
        s=$supervisor_PID; read -r -u "${supervisor[0]}"
        setpriv --reuid 64243 --clear-groups "$@"; wait $s; echo supervisor $?
        """,
        "bash",
      ],
      check: { evidence, verdict in
        verdict.require(
          evidence.stdout.contains("supervisor 137"), "a supervisor of the same uid lives: \(evidence.stdout)")
      }))

  private static let pr08 = AttackCase(
    id: "PR-08", what: "signal process 1 and the numbers of the supervisor's processes",
    payload: .python(
      """
      number = int(sys.argv[1])
      for process in [int(p) for p in sys.argv[2:]]:
          for name, call_number, arguments in (
              ("kill", 62, (process, number)), ("tkill", 200, (process, number)),
              ("tgkill", 234, (process, process, number)),
              ("group", 62, (-process, number)), ("pidfd_open", 434, (process, 0))):
              if process == 1 and name == "group": continue
              call(f"{name} {process}", call_number, *arguments)
      """),
    arguments: { _ in
      let up = CleanHost.processes().filter {
        ["cordon", "cordon-warden", "postgres"].contains(CleanHost.name(of: $0))
      }
      // Numbers that a cell cannot have itself.
      return ["9", "1"] + up.filter { $0 > 1_000 }.suffix(12).map(String.init)
    },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      // That the job goes on to its end shows that a signal which is taken had no effect.
      let signals = ["kill 1", "tkill 1", "tgkill 1"]
      if WorkerUser.isOrdinary {
        verdict.met(evidence, signals, "EPERM", "ESRCH", "ok")
      } else {
        verdict.met(evidence, signals, "EPERM", "ESRCH")
      }
      verdict.met(evidence, ["pidfd_open 1"], "ok", "EPERM", "ESRCH", "EINVAL")
      let others = evidence.seen.filter { !$0.key.hasSuffix(" 1") }
      verdict.require(others.count > 8, "there was nobody to signal")
      for (name, met) in others { verdict.equal(met, .string("ESRCH"), name) }
    },
    // Signal 0: only asks.
    control: .host(
      arguments: { _ in ["0", "1", String(getpid())] },
      check: { evidence, verdict in
        verdict.met(evidence, ["kill 1", "tkill 1", "tgkill 1", "kill \(getpid())", "pidfd_open \(getpid())"], "ok")
      }))

  private static let pr09 = AttackCase(
    id: "PR-09", what: "trace, read and take descriptors of processes outside",
    payload: .python(
      """
      targets = [int(p) for p in sys.argv[1:]]
      if targets == [0]:
          targets = [os.fork()]
          if targets == [0]: time.sleep(60)
          time.sleep(0.1)
      buffer = ctypes.create_string_buffer(8)
      for process in targets:
          local = struct.pack("PL", ctypes.addressof(buffer), 8)
          remote = struct.pack("PL", ctypes.addressof(buffer), 8)
          call(f"process_vm_readv {process}", 310, process, local, 1, remote, 1, 0)
          call(f"process_vm_writev {process}", 311, process, local, 1, remote, 1, 0)
          call(f"kcmp {process}", 312, os.getpid(), process, 1, 0, 0)
          handle = libc.syscall(ctypes.c_long(434), ctypes.c_long(process), ctypes.c_long(0))
          call(f"pidfd_getfd {process}", 438, handle, 0, 0)
          call(f"process_madvise {process}", 440, handle, local, 1, 21, 0)
          call(f"ptrace attach {process}", 101, 16, process, 0, 0)
          call(f"ptrace seize {process}", 101, 0x4206, process, 0, 0)
          call(f"move_pages {process}", 279, process, 1, local, 0, 0, 0)
      apart("traceme", lambda: call("it", 101, 0, 0, 0, 0))
      if len(sys.argv) == 2 and sys.argv[1] == "0": os.kill(targets[0], 9)
      note("parent", os.getppid())
      if sys.argv[1] != "0": save(); time.sleep(1.2)
      """),
    arguments: { _ in ["1", "2", String(getpid())] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      for name in [
        "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", "process_madvise", "ptrace", "move_pages",
      ] {
        verdict.metAll(evidence, prefix: name + " ", "EPERM")
      }
      verdict.met(evidence, ["traceme"], "EPERM")
      try await supervisedFromOutside(evidence, &verdict)
    },
    control: .host(
      arguments: { _ in ["0"] },
      check: { evidence, verdict in
        for name in ["process_vm_readv", "kcmp", "pidfd_getfd", "ptrace attach"] {
          verdict.metAll(evidence, prefix: name + " ", "ok")
        }
      }))

  /// As the host sees a running cell: its first process has another uid than the job, or cannot be read by it, and
  /// the job is a session of its own with no terminal.
  private static func supervisedFromOutside(_ evidence: Evidence, _ verdict: inout Verdict) async throws {
    let house = evidence.house!
    let marker = Marker()
    let specification = try Payload.command(["/usr/bin/sleep"]).specification([marker.text], label: "PR-09", asks: [:])
    let job = try await house.enqueue(specification)
    defer { marker.end() }
    try await eventually("the job runs") { marker.exists }
    guard let process = marker.process, let first = firstProcess(besides: process) else {
      return verdict.fail("the job's namespace has no first process")
    }
    var status = stat()
    stat("/proc/\(first)/environ", &status)
    verdict.equal(status.st_uid, 0, "owner of the first process's files in proc (0: it is not dumpable)")
    if !WorkerUser.isOrdinary {
      let users = [CleanHost.user(of: first), CleanHost.user(of: process), 0]
      verdict.require(Set(users).count == 3, "uids of the first process, the job and root: \(users)")
    }
    let fields = try readText("/proc/\(process)/stat").split(separator: ")").last?.split(separator: " ") ?? []
    // state, parent, group, session, terminal
    verdict.require(
      fields.count > 4 && fields[3] == "\(process)", "the job's session is another's: \(fields.prefix(5))")
    verdict.require(fields.count > 4 && fields[4] == "0", "the job has a terminal")
    marker.end()
    _ = try await house.finished(job)
  }

  /// Process 1 of another process's pid namespace.
  private static func firstProcess(besides process: pid_t) -> pid_t? {
    func namespace(_ process: pid_t) -> String? {
      try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(process)/ns/pid")
    }
    let own = namespace(process)
    return CleanHost.processes().first {
      CleanHost.status(of: $0, "NSpid")?.split(separator: "\t").last == "1" && namespace($0) == own
    }
  }

  /// In which a shell has begun.
  private static let short = "\(Int(2_000 * patience))ms"
  /// Of a control: more than that.
  private static let longer = "\(2.5 * patience)"

  private static func sleepCase(_ id: String, _ what: String, _ script: String) -> AttackCase {
    AttackCase(
      id: id, what: what, payload: .bash(script), arguments: { _ in ["30"] },
      asks: ["limits": .object(["wall": .string(short), "grace": .string("200ms")])],
      expect: { evidence, verdict in
        verdict.outcome(evidence, "timed_out")
        verdict.equal(evidence.stdout, "begins\n", "stdout")
        let wall = evidence.record["usage"]?["wall_seconds"]?.double ?? 99
        verdict.require(wall > 1.9 * patience && wall < 8 * patience, "it lived \(wall) s")
      },
      control: .cell(
        asks: ["limits": .object(["wall": .string("\(Int(20 * patience))s")])], arguments: { _ in [longer] },
        check: { evidence, verdict in
          verdict.outcome(evidence, "succeeded")
          verdict.equal(evidence.stdout, "begins\nends\n", "stdout")
        }))
  }

  private static let pr13 = sleepCase("PR-13", "sleep for ever", "echo begins; sleep $1; echo ends")
  private static let pr13b = sleepCase(
    "PR-13b", "stop oneself, with a child that wakes it much later",
    "echo begins; (sleep $1; kill -CONT $$) & kill -STOP $$; echo ends")

  private static let pr21 = AttackCase(
    id: "PR-21", what: "run into the time limit with output that is partial",
    payload: .bash(
      "printf partial; printf half >&2; echo x > $CORDON_OUTPUT/x; echo '{\"a\": 1}' > $CORDON_RESULT; sleep $1"),
    arguments: { _ in ["30"] },
    asks: ["limits": .object(["wall": .string(short), "grace": .string("200ms")])],
    expect: { evidence, verdict in
      verdict.outcome(evidence, "timed_out")
      verdict.equal(evidence.stdout, "partial", "stdout")
      verdict.equal(evidence.stderr, "half", "stderr")
      verdict.equal(evidence.artifacts, ["x"], "artifacts")
      verdict.equal(evidence.record["result"]?["a"], .integer(1), "the result")
    },
    control: .cell(arguments: { _ in ["0"] }, check: { evidence, verdict in verdict.outcome(evidence, "succeeded") }))

  private static let pr23 = AttackCase(
    id: "PR-23", what: "dump core, and invoke the host's handler",
    payload: .bash(
      """
      cd $CORDON_OUTPUT; ulimit -c unlimited 2>/dev/null && echo raised; ulimit -Hc
      python3 -c 'import os; os.abort()'; echo $?; ls
      """
    ),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.equal(evidence.stdout, "0\n134\n", "stdout (the hard limit, the status, no file)")
      verdict.equal(evidence.artifacts, [], "artifacts")
    },
    control: .host(check: { evidence, verdict in
      verdict.require(
        evidence.stdout.hasPrefix("raised\nunlimited\n134\n"), "the limit could not be raised: \(evidence.stdout)")
      let pattern = try readText("/proc/sys/kernel/core_pattern")
      if !pattern.contains("/") && !pattern.hasPrefix("|") {
        verdict.require(evidence.stdout.contains("core"), "no core was dumped: \(evidence.stdout)")
      }
    }))
}

extension Marker {
  /// The sleeping process as the host sees it.
  var process: pid_t? {
    CleanHost.processes().first { process in
      guard let line = FileManager.default.contents(atPath: "/proc/\(process)/cmdline") else { return false }
      let words = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
      return words.first?.hasSuffix("sleep") == true && words.contains(text)
    }
  }

  /// Ends it, where a control left it alive.
  func end() {
    if let process { kill(process, SIGKILL) }
  }
}
