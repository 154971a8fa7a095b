import Foundation
import Glibc
import Jobs
import TestKit

/// What a job tries on the resources of the host.
enum ResourceCases {
  static let all: [AttackCase] = [pr01, pr02, pr10, pr10b] + hidden + [pr12, pr20, pr24, pr26, pr27]

  private static let forks = Payload.python(
    """
    import threading
    made, kind = 0, sys.argv[1]
    def more():
        global made
        for _ in range(int(sys.argv[2])):
            if kind == "fork":
                if os.fork() == 0:
                    time.sleep(20)
                    os._exit(0)
            else:
                try: threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
                except RuntimeError: raise OSError(errno.EAGAIN, "thread")
            made += 1
    threading.stack_size(65536)
    attempt("bomb", more)
    note("made", made)
    end()
    # Goes on trying, as a bomb does.
    until = time.monotonic() + 1.5
    while time.monotonic() < until and kind == "fork" and len(sys.argv) < 4:
        try:
            if os.fork() == 0: os._exit(0)
        except OSError: pass
    os._exit(0)
    """)

  private static func bomb(_ id: String, _ what: String, _ kind: String) -> AttackCase {
    AttackCase(
      id: id, what: what, payload: forks, arguments: { _ in [kind, "200"] },
      asks: ["limits": .object(["pids": .integer(64)])],
      expect: { evidence, verdict in
        verdict.outcome(evidence, "succeeded")
        verdict.met(evidence, ["bomb"], "EAGAIN")
        verdict.require((evidence.number("made") ?? 999) <= 64, "it made \(evidence.seen)")
        verdict.require(evidence.notes.contains("pids_limit"), "the record does not say so: \(evidence.notes)")
        if kind == "fork" { try await neighbourIsAsFast(evidence, &verdict) }
      },
      control: .cell(
        asks: ["limits": .object(["pids": .integer(400)])], arguments: { _ in [kind, "200", "no more"] },
        check: { evidence, verdict in
          verdict.outcome(evidence, "succeeded")
          verdict.equal(evidence.number("made"), 200, "made")
          verdict.equal(evidence.notes, [], "notes")
        }), isAlone: true)
  }

  private static let pr01 = bomb("PR-01", "a fork bomb", "fork")
  private static let pr02 = bomb("PR-02", "a bomb of threads", "thread")

  /// The slowest of a hundred steps of a neighbour, beside a bomb and alone. What a host adds by itself is bounded by
  /// a floor of 20 ms; a bomb without a limit takes the neighbour's processor altogether.
  private static func neighbourIsAsFast(_ evidence: Evidence, _ verdict: inout Verdict) async throws {
    let house = evidence.house!
    // What the host does meanwhile only adds: a few tries, until one is below what is enough.
    func slow(beside: Bool, tries: Int, enough: Double) async throws -> Double {
      var least = Double.infinity
      for _ in 0..<tries where least > enough {
        async let bomb =
          beside
          ? house.evidence(
            forks, ["fork", "200"], label: "PR-01", asks: ["limits": .object(["pids": .integer(64)])], evidence.place)
          : nil
        if beside { try await Task.sleep(for: .milliseconds(200)) }
        least = min(least, try await Neighbours.run(house).slow)
        _ = try await bomb
      }
      return least
    }
    let alone = try await slow(beside: false, tries: 2, enough: 0)
    let bound = max(2 * alone, 20 * patience)
    let beside = try await slow(beside: true, tries: 5, enough: bound)
    verdict.require(beside <= bound, "a neighbour's p99 is \(beside) ms beside it, \(alone) ms alone")
  }

  private static let pr10 = AttackCase(
    id: "PR-10", what: "allocate until the memory is gone",
    payload: .python("note('size', 'ok'); save(); x = bytearray(160 << 20); print('allocated')"),
    asks: ["limits": .object(["memory": .string("64MiB")])],
    expect: { evidence, verdict in
      verdict.outcome(evidence, "out_of_memory")
      verdict.require(!evidence.stdout.contains("allocated"), "it was allocated")
    },
    control: .cell(
      asks: ["limits": .object(["memory": .string("512MiB")])],
      check: { evidence, verdict in
        verdict.outcome(evidence, "succeeded")
        verdict.require(evidence.stdout.contains("allocated"), "it was not allocated")
      }))

  private static let pr10b = AttackCase(
    id: "PR-10b", what: "look like one that ran out of memory: exit code 137, and a child killed by SIGKILL",
    payload: .bash("bash -c 'kill -9 $$'; echo $?; exit ${1:-137}"),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "failed")
      verdict.equal(evidence.record["exit_code"], .integer(137), "exit code")
    },
    // A supervisor that judges by the status alone.
    control: .host(check: { evidence, verdict in verdict.equal(evidence.exit, 137, "status") }))

  /// Memory that is no process's heap; each kind alone.
  private static let hidden: [AttackCase] =
    [
      ("PR-11", "a memfd", "d = os.memfd_create('x')\nfor _ in range(128): os.write(d, b'x' * (1 << 20))"),
      (
        "PR-11b", "/dev/shm",
        "f = open('/dev/shm/x', 'wb', buffering=0)\nfor _ in range(128): f.write(b'x' * (1 << 20))"
      ),
      (
        "PR-11c", "System V shared memory",
        """
        libc.shmat.restype = ctypes.c_void_p
        libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
        for _ in range(16):
            area = libc.shmat(libc.shmget(0, ctypes.c_size_t(8 << 20), 0o1600), None, 0)
            ctypes.memset(area, 1, 8 << 20)
        """
      ),
      (
        "PR-11d", "buffers of unix sockets",
        """
        kept = []
        for _ in range(450):
            a, b = socket.socketpair()
            a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            a.setblocking(False)
            try:
                while True: a.send(b"x" * 32768)
            except BlockingIOError: pass
            kept.append((a, b))
        note("queued", "ok")
        """
      ),
      (
        "PR-11e", "pipes",
        """
        import fcntl
        kept = []
        for _ in range(480):
            r, w = os.pipe()
            os.set_blocking(w, False)
            try: fcntl.fcntl(w, 1031, 1 << 20)
            except OSError: pass
            try:
                while True: os.write(w, b"x" * 65536)
            except BlockingIOError: pass
            kept.append((r, w))
        """
      ),
    ].map { id, what, text in
      AttackCase(
        id: id, what: "hide memory in \(what)", payload: .python(text + "\nnote('filled', 'ok')"),
        // What holds less than the limit by other bounds (pipes) is bounded as well.
        asks: ["limits": .object(["memory": .string(id == "PR-11e" ? "16MiB" : "48MiB"), "tmp": .string("1GiB")])],
        expect: { evidence, verdict in verdict.outcome(evidence, "out_of_memory") },
        control: .cell(
          asks: ["limits": .object(["memory": .string("1GiB"), "tmp": .string("1GiB")])],
          check: { evidence, verdict in
            verdict.outcome(evidence, "succeeded")
            verdict.met(evidence, ["filled"], "ok")
          }))
    } + [
      AttackCase(
        id: "PR-11f", what: "lock memory, so that it cannot be taken back",
        payload: .python(
          """
          import mmap, resource
          area = mmap.mmap(-1, 1 << 20)
          address = ctypes.addressof(ctypes.c_char.from_buffer(area))
          call("mlock", 149, address, 1 << 20)
          call("mlockall", 151, 3)
          def higher():
              # Python has a word of its own for what the kernel refuses here.
              try: resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 30, 1 << 30))
              except ValueError: raise OSError(errno.EPERM, "setrlimit")
          attempt("raise", higher)
          """),
        expect: { evidence, verdict in
          verdict.outcome(evidence, "succeeded")
          verdict.met(evidence, ["mlock", "mlockall"], "ENOMEM", "EPERM", "EAGAIN")
          verdict.met(evidence, ["raise"], "EPERM")
        },
        control: .host(check: { evidence, verdict in verdict.met(evidence, ["mlock", "mlockall"], "ok") }))
    ]

  private static let spin = Payload.bash("for i in 1 2 3 4; do (while :; do :; done) & done; sleep 2")

  private static let pr12 = AttackCase(
    id: "PR-12", what: "spin on all processors", payload: spin,
    asks: ["limits": .object(["cpus": .number(0.2)])],
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      let (used, wall) = seconds(evidence)
      // Five hundredths of a second are for the start, before the first period is over.
      verdict.require(used <= 0.2 * wall * 1.25 + 0.15, "\(used) s of processor time in \(wall) s")
      // There is no limit on processor time as such; the time limit ends who spins.
      let spins = try await evidence.house!.evidence(
        .bash("while :; do :; done"), label: "PR-12",
        asks: ["limits": .object(["wall": .string("500ms"), "grace": .string("100ms")])], evidence.place)
      verdict.outcome(spins, "timed_out")
    },
    control: .cell(
      asks: ["limits": .object(["cpus": .integer(4)])],
      check: { evidence, verdict in
        // On a busy host others take the processors; once is enough to show that nothing bounds it.
        var found = evidence
        for _ in 0..<5 {
          let (used, wall) = seconds(found)
          if used > 0.2 * wall * 1.25 + 0.15 { return }
          found = try await evidence.house!.evidence(
            spin, label: "PR-12", asks: ["limits": .object(["cpus": .integer(4)])], evidence.place)
        }
        verdict.fail("no run used more than the limited one")
      }), isAlone: true)

  private static func seconds(_ evidence: Evidence) -> (Double, Double) {
    let usage = evidence.record["usage"]
    return (usage?["cpu_seconds"]?.double ?? .infinity, usage?["wall_seconds"]?.double ?? 0)
  }

  private static let floodBytes: Int64 = 600_000_000

  private static let pr20 = AttackCase(
    id: "PR-20", what: "flood stdout with one line of hundreds of megabytes",
    payload: .command(["/usr/bin/head", "-c"]), arguments: { _ in [String(floodBytes), "/dev/zero"] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.equal(evidence.record["stdout"]?["bytes"], .integer(floodBytes), "bytes counted")
      verdict.equal(evidence.record["stdout"]?["truncated"], .bool(true), "truncated")
      verdict.equal(evidence.stdout.utf8.count, 1 << 20, "bytes kept")
      let up = evidence.house!.worker.process.processIdentifier
      let peak =
        CleanHost.status(of: up, "VmHWM").flatMap { Int($0.split(separator: " ")[0].filter(\.isNumber)) } ?? .max
      verdict.require(peak < 400_000, "the worker's memory peaked at \(peak) kB")
    },
    control: .cell(
      asks: ["limits": .object(["stdout": .string("4MiB")])], arguments: { _ in ["3000000", "/dev/zero"] },
      check: { evidence, verdict in
        verdict.equal(evidence.record["stdout"]?["truncated"], .bool(false), "truncated")
        verdict.equal(evidence.stdout.utf8.count, 3_000_000, "bytes kept")
      }))

  /// Cells of the short form; `ops/bench soak` makes a hundred thousand.
  private static let many = 240

  private static func run(_ count: Int, _ evidence: Evidence) async throws -> Int {
    let house = evidence.house!
    let specification = try Payload.command(["/usr/bin/true"]).specification([], label: evidence.job, asks: [:])
    var jobs: [String] = []
    for _ in 0..<count { jobs.append(try await house.enqueue(specification)) }
    var succeeded = 0
    for job in jobs where try await house.finished(job)["outcome"] == .string("succeeded") { succeeded += 1 }
    return succeeded
  }

  private static let pr24 = AttackCase(
    id: "PR-24", what: "hundreds of jobs that do nothing; the host is looked at after them as after every attack",
    payload: .command(["/usr/bin/true"]),
    expect: { evidence, verdict in
      let up = evidence.house!.worker.process.processIdentifier
      let before = names(in: "/proc/\(up)/fd").count
      verdict.equal(try await run(many, evidence), many, "jobs that succeeded")
      try await Task.sleep(for: .milliseconds(500))
      let after = names(in: "/proc/\(up)/fd").count
      verdict.require(after <= before + 16, "the worker had \(before) descriptors and has \(after)")
    },
    // That the look at the host sees a group that was forgotten.
    control: .host(check: { _, verdict in
      let group = "/sys/fs/cgroup/memory/cordon-attack-\(getpid())"
      // One of others that goes at the same moment hides it.
      for _ in 0..<50 {
        let before = liveAndDying()
        guard mkdir(group, 0o755) == 0 else {
          return verdict.require(
            !FileManager.default.fileExists(atPath: "/sys/fs/cgroup/memory"), "cannot make a group")
        }
        let isCounted = liveAndDying() > before
        rmdir(group)
        if isCounted { return }
        try await Task.sleep(for: .milliseconds(20))
      }
      verdict.fail("a group more is not counted")
    }), isAlone: true)

  private static let pr27 = AttackCase(
    id: "PR-27", what: "groups that die slowly, because pages of theirs stay behind",
    payload: .bash("cat /usr/bin/python3.11 /usr/bin/bash > /dev/null; head -c 1M /dev/zero > /tmp/x"),
    expect: { evidence, verdict in
      let before = liveAndDying()
      let payload = Payload.bash("cat /usr/bin/bash > /dev/null; head -c 1M /dev/zero > /tmp/x")
      let specification = try payload.specification([], label: evidence.job, asks: [:])
      var jobs: [String] = []
      for _ in 0..<100 { jobs.append(try await evidence.house!.enqueue(specification)) }
      for job in jobs { _ = try await evidence.house!.finished(job) }
      // The kernel frees them in its own time; those of other programs on this host are counted, too.
      for _ in 0..<Int(600 * patience) where liveAndDying() > before + 40 {
        try await Task.sleep(for: .milliseconds(50))
      }
      let after = liveAndDying()
      verdict.require(after <= before + 40, "\(before) memory groups before a hundred cells, \(after) after them")
    },
    control: .host(check: { _, verdict in
      verdict.require(liveAndDying() > 0, "the kernel does not say how many memory groups there are")
    }), isAlone: true)

  /// Memory groups that the kernel still has, dead ones among them.
  private static func liveAndDying() -> Int {
    for line in (try? readText("/proc/cgroups"))?.split(separator: "\n") ?? [] where line.hasPrefix("memory\t") {
      let fields = line.split(separator: "\t")
      if fields.count > 2, fields[1] != "0" { return Int(fields[2]) ?? 0 }
    }
    let text = (try? readText("/sys/fs/cgroup/cgroup.stat")) ?? ""
    return text.split(separator: "\n").compactMap { Int($0.split(separator: " ").last ?? "") }.reduce(0, +)
  }

  private static let pr26 = AttackCase(
    id: "PR-26", what: "flood the disk",
    payload: .python(
      """
      places = sys.argv[1:]
      for place in places:
          def flood():
              with open(place + "/flood", "wb", buffering=0) as file:
                  for _ in range(6): file.write(os.urandom(1 << 20)); os.fsync(file.fileno())
          attempt("flood " + place, flood)
      fields = dict(line.split(": ") for line in open("/proc/self/io").read().splitlines())
      note("written", int(fields["write_bytes"]))
      """), arguments: { _ in ["/output", "/tmp", "/dev/shm"] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.metAll(evidence, prefix: "flood ", "ok", "ENOSPC")
      // All that a job can write to under this policy is memory: no block device sees a byte of it, so there is nothing
      // to throttle.
      verdict.equal(evidence.number("written"), 0, "bytes for a disk")
    },
    control: .host(
      arguments: { [(try? $0.directory("flood")) ?? ""] },
      check: { evidence, verdict in
        verdict.require((evidence.number("written") ?? 0) >= Double(6 << 20), "\(evidence.seen)")
      }))
}
