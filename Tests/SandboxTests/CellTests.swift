import Glibc
import Jobs
import Kernel
import Testing

@testable import Sandbox

/// How jobs end, with the real warden and the real kernel. Runs as root on the host under test.
@Suite("Cells", .serialized) struct CellTests {
  @Test func exitCodesAreFacts() async throws {
    try await withBench { (bench) async throws in
      #expect(try await bench.run(["/usr/bin/true"]).outcome == .succeeded)
      #expect(try await bench.run(["/usr/bin/false"]).outcome == .failed(code: 1))
      #expect(try await bench.bash("exit 3").outcome == .failed(code: 3))
      let pretender = try await bench.run(["/usr/bin/sh", "-c", "exit 137"])
      #expect(pretender.outcome == .failed(code: 137))
      #expect(pretender.report.facts.oomKills == 0)
      #expect(pretender.report.facts.stopped == nil)
    }
  }

  @Test func signalsAreFacts() async throws {
    try await withBench { (bench) async throws in
      #expect(try await bench.bash("kill -TERM $$").outcome == .signaled(signal: SIGTERM))
      #expect(try await bench.bash("kill -KILL $$").outcome == .signaled(signal: SIGKILL))
      #expect(try await bench.python("import os; os.abort()").outcome == .signaled(signal: SIGABRT))
      // Nobody but the job itself is reached by a signal to everybody.
      let everybody = try await bench.bash("kill -9 -1; echo survived")
      #expect([.succeeded, .signaled(signal: SIGKILL)].contains(everybody.outcome))
      #expect(try await bench.run(["/usr/bin/true"]).outcome == .succeeded, "the warden is alive")
    }
  }

  @Test func streamsStdinArgumentsAndEnvironment() async throws {
    try await withBench { (bench) async throws in
      let echoed = try await bench.run(["/usr/bin/cat"], stdin: Array("hello\0\u{FFFD}".utf8))
      #expect(echoed.stdout == "hello\0\u{FFFD}")
      #expect(echoed.report.stdout == StreamFacts(bytes: 9, truncated: false))
      #expect(try await bench.run(["/usr/bin/cat"]).stdout == "")
      let large = [UInt8](repeating: UInt8(ascii: "x"), count: 500_000)
      #expect(try await bench.run(["/usr/bin/wc", "-c"], stdin: large).stdout == "500000\n")
      let split = try await bench.bash("echo out; echo err >&2; echo reopened > /dev/stdout")
      #expect(split.stdout == "out\nreopened\n")
      #expect(split.stderr == "err\n")
      let arguments = ["--flag", "$(id)", "a b", ";", "", "\u{E9}\n"]
      let printed = try await bench.run(["/usr/bin/printf", "[%s]"] + arguments)
      #expect(printed.stdout == arguments.map { "[\($0)]" }.joined())
      let environment = try await bench.run(["/usr/bin/env"])
      #expect(
        environment.stdout.split(separator: "\n").sorted() == ["HOME=/tmp", "LC_ALL=C", "PATH=/usr/bin:/usr/sbin"])
    }
  }

  @Test func aLargeArgumentList() async throws {
    try await withBench { (bench) async throws in
      let argument = String(repeating: "a", count: 100_000)
      let argv = ["/usr/bin/bash", "-c", "echo $# ${#1}", "-"] + Array(repeating: argument, count: 12)
      #expect(try await bench.run(argv).stdout == "12 100000\n")
      for argv in [
        Array(repeating: "/usr/bin/true", count: 2_000), ["/usr/bin/true"] + Array(repeating: argument, count: 50),
      ] {
        let error = await #expect(throws: SandboxError.self) { try await bench.run(argv) }
        #expect(error?.isJobsFault == true)
      }
      #expect(try await bench.run(["/usr/bin/true"]).outcome == .succeeded)
    }
  }

  @Test func requestsThatCannotRun() async throws {
    try await withBench { (bench) async throws in
      let missing = await #expect(throws: SandboxError.self) { try await bench.run(["/usr/bin/no-such-program"]) }
      #expect(missing?.stage == "exec")
      #expect(missing?.errno == ENOENT)
      #expect(missing?.isJobsFault == true)
      let plain = await #expect(throws: SandboxError.self) { try await bench.run(["/etc/passwd"]) }
      #expect(plain?.isJobsFault == true)
      let relative = await #expect(throws: SandboxError.self) { try await bench.run(["true"]) }
      #expect(relative?.stage == "request")
      let empty = await #expect(throws: SandboxError.self) { try await bench.run([]) }
      #expect(empty?.stage == "request")
      let nul = await #expect(throws: SandboxError.self) { try await bench.run(["/usr/bin/true", "a\0b"]) }
      #expect(nul?.stage == "request")
      #expect(try names(in: bench.scratch.path + "/state/stages").isEmpty)
      #expect(try await bench.run(["/usr/bin/true"]).outcome == .succeeded)
    }
  }

  @Test func theWallClock() async throws {
    try await withBench { (bench) async throws in
      let polite = try await bench.bash(
        "trap 'echo bye; exit 0' TERM; printf partial; while :; do sleep 0.05; done",
        limits: Limits(wallMilliseconds: 2_000, graceMilliseconds: 5_000))
      #expect(polite.outcome == .timedOut)
      #expect(polite.stdout == "partialbye\n", "what was written is kept")
      #expect((1.95...12).contains(polite.report.wallSeconds))
      #expect((0.29...10).contains(try await bench.run(["/usr/bin/sleep", "0.3"]).report.wallSeconds))
      let started = ContinuousClock.now
      let stubborn = try await bench.python(
        """
        import os, signal, time
        for s in range(1, 65):
          try: signal.signal(s, signal.SIG_IGN)
          except (OSError, ValueError): pass
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        while True: time.sleep(1)
        """, limits: Limits(wallMilliseconds: 2_000, graceMilliseconds: 300))
      #expect(stubborn.outcome == .timedOut)
      #expect(ContinuousClock.now - started < .seconds(15))
      let stopped = try await bench.bash(
        "kill -STOP $$; echo never", limits: Limits(wallMilliseconds: 300, graceMilliseconds: 200))
      #expect(stopped.outcome == .timedOut)
    }
  }

  @Test func cancelling() async throws {
    try await withBench { (bench) async throws in
      let limits = Limits(wallMilliseconds: 60_000, graceMilliseconds: 500)
      let (cell, stage) = try await bench.start(
        ["/usr/bin/bash", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"], limits: limits)
      defer { stage.remove() }
      var iterator = cell.output.makeAsyncIterator()
      #expect(await iterator.next() == OutputChunk(stream: "stdout", bytes: Array("up\n".utf8)))
      let asked = ContinuousClock.now
      cell.stop(.cancelled)
      cell.stop(.abandoned)
      let report = try await cell.report()
      #expect(report.facts.outcome == .cancelled, "the first reason stands")
      #expect(ContinuousClock.now - asked < .seconds(10))
      cell.stop(.cancelled)
      #expect(try await cell.report().facts.outcome == .cancelled, "a report can be asked for again")

      let (other, otherStage) = try await bench.start(["/usr/bin/sleep", "60"], limits: limits)
      defer { otherStage.remove() }
      other.stop(.abandoned)
      #expect(try await bench.finish(other).outcome == .lost)
    }
  }

  @Test func memory() async throws {
    try await withBench { (bench) async throws in
      let ran = try await bench.python(
        "b = bytearray(512 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1\nprint('never')",
        limits: Limits(wallMilliseconds: 60_000, memoryBytes: 48 << 20))
      #expect(ran.outcome == .outOfMemory)
      #expect(ran.report.facts.oomKills > 0)
      #expect(ran.stdout == "")
      let hidden = try await bench.bash(
        "head -c 200M /dev/zero > /tmp/hidden; cat /tmp/hidden > /dev/null; echo end",
        limits: Limits(wallMilliseconds: 60_000, memoryBytes: 48 << 20, temporaryBytes: 1 << 30))
      #expect(hidden.outcome == .outOfMemory, "tmpfs pages are memory of the cell")
      let survivor = try await bench.bash(
        "trap '' TERM; (head -c 512M /dev/zero | tail -n 1) ; sleep 30; echo survived",
        limits: Limits(wallMilliseconds: 60_000, memoryBytes: 48 << 20))
      #expect(survivor.outcome == .outOfMemory, "the whole cell goes, not only the process that was killed")
      #expect(survivor.report.wallSeconds < 20)
      let modest = try await bench.python("b = bytearray(20 << 20)", limits: Limits(memoryBytes: 96 << 20))
      #expect(modest.outcome == .succeeded)
      if let peak = modest.report.memoryPeakBytes { #expect((20 << 20...96 << 20).contains(peak)) }
    }
  }

  /// The execve copies the arguments under the limit the job asked for: whatever becomes of that, it is the job's or the
  /// request's fault, or the job would be given to one worker after the other.
  @Test func littleMemoryForTheStart() async throws {
    try await withBench { (bench) async throws in
      let argv = ["/usr/bin/true"] + Array(repeating: String(repeating: "a", count: 120_000), count: 15)
      let small = Limits(wallMilliseconds: 5_000, memoryBytes: 4 << 20)
      for _ in 0..<3 {
        do {
          let outcome = try await bench.run(argv, limits: small).outcome
          #expect([.succeeded, .outOfMemory].contains(outcome))
        } catch let error as SandboxError {
          #expect(error.isJobsFault, "\(error)")
          #expect(error.stage == "request")
          #expect(error.message == "limits.memory: 4194304 bytes do not hold this job's start")
        }
      }
      #expect(try await bench.run(argv, limits: Limits(memoryBytes: 32 << 20)).outcome == .succeeded)
      #expect(try await bench.run(["/usr/bin/true"], limits: small).outcome == .succeeded, "control: the start fits")
    }
  }

  @Test func processesAreLimited() async throws {
    try await withBench { (bench) async throws in
      let bomb = try await bench.python(
        """
        import os
        while True:
          try: os.fork()
          except OSError: pass
        """, limits: Limits(wallMilliseconds: 3_000, graceMilliseconds: 100, pids: 32))
      #expect(bomb.outcome == .timedOut)
      #expect(bomb.report.facts.notes.contains("pids_limit"))
      let counted = try await bench.python(
        """
        import os, time
        made = 0
        try:
          while made < 100:
            if os.fork() == 0: time.sleep(60)
            made += 1
        except OSError as e: print(made, e.errno)
        """, limits: Limits(wallMilliseconds: 30_000, pids: 16))
      #expect(counted.outcome == .succeeded)
      let words = counted.stdout.split(separator: " ").compactMap { Int($0.filter(\.isNumber)) }
      #expect(words.count == 2 && (10...16).contains(words[0]) && words[1] == Int(EAGAIN))
      #expect(counted.report.facts.notes == ["pids_limit"])
    }
  }

  @Test func outputsAreLimited() async throws {
    try await withBench { (bench) async throws in
      let flood = try await bench.bash(
        "head -c 8M /dev/zero > /output/flood || echo full >&2; exit 0", limits: Limits(outputBytes: 1 << 20))
      #expect(flood.outcome == .outputLimit)
      let many = try await bench.bash(
        "for i in {1..500}; do : > /output/$i || exit 0; done 2>/dev/null", limits: Limits(outputFiles: 50))
      #expect(many.outcome == .outputLimit)
      let exact = try await bench.bash(
        "head -c 1M /dev/zero > /output/exact && for i in {1..49}; do : > /output/$i || exit 1; done",
        limits: Limits(outputBytes: 1 << 20, outputFiles: 50))
      #expect(exact.outcome == .succeeded, "what is allowed may be used to the full")
      let collected = try Outputs.collect(
        exact.report, approvedRoot: bench.approvedRoot, tenant: "t", job: "j", attempt: 1,
        limits: Limits(outputBytes: 1 << 20, outputFiles: 50))
      #expect(collected.artifacts.count == 50)
      #expect(collected.quarantined.isEmpty)
      collected.discard()
      let hidden = try await bench.bash(
        "head -c 2M /dev/zero > /output/a 2>/dev/null; sleep 0.5; truncate -s 1000 /output/a",
        limits: Limits(outputBytes: 1 << 20))
      #expect(hidden.outcome == .outputLimit, "space that is given back does not hide that there was none")
    }
  }

  @Test func aFloodIsCountedAndCut() async throws {
    try await withBench { (bench) async throws in
      let before = try residentBytes()
      let ran = try await bench.bash(
        "head -c 300000000 /dev/zero; head -c 1000 /dev/zero >&2",
        limits: Limits(wallMilliseconds: 60_000, streamBytes: 100_000))
      #expect(ran.outcome == .succeeded)
      #expect(ran.report.stdout == StreamFacts(bytes: 300_000_000, truncated: true))
      #expect(ran.stdout.utf8.count == 100_000)
      #expect(ran.report.stderr == StreamFacts(bytes: 1_000, truncated: false))
      #expect(try residentBytes() - before < 100 << 20)
      let (unread, stage) = try await bench.start(
        ["/usr/bin/head", "-c", "100000000", "/dev/zero"], limits: Limits(streamBytes: 1 << 20))
      defer { stage.remove() }
      #expect(try await unread.report().stdout == StreamFacts(bytes: 100_000_000, truncated: true))
      var kept = 0
      for await chunk in unread.output {
        #expect(chunk.bytes.count <= 64 << 10)
        kept += chunk.bytes.count
      }
      #expect(kept == 1 << 20, "what nobody read in time is still there, up to the cap")
      let slow = try await bench.python(
        "import os\nfor i in range(20000): os.write(1, b'x')", limits: Limits(wallMilliseconds: 60_000))
      #expect(slow.stdout.utf8.count == 20_000)
    }
  }

  @Test func orphansDelayNothing() async throws {
    try await withBench { (bench) async throws in
      let started = ContinuousClock.now
      let orphan = try await bench.bash("sleep 300 & echo kept; exit 0")
      #expect(orphan.outcome == .succeeded)
      #expect(orphan.stdout == "kept\n")
      let daemon = try await bench.python(
        """
        import os, time
        if os.fork() == 0:
          os.setsid()
          if os.fork() == 0:
            for d in (0, 1, 2): os.close(d)
            time.sleep(300)
          os._exit(0)
        os.wait()
        """)
      #expect(daemon.outcome == .succeeded)
      #expect(ContinuousClock.now - started < .seconds(15))
      #expect(try processes(of: #require(orphan.report.isolation.uid)).isEmpty)
      #expect(try processes(of: #require(daemon.report.isolation.uid)).isEmpty)
    }
  }

  @Test func outputsOfARealCell() async throws {
    try await withBench { (bench) async throws in
      let ran = try await bench.run(
        [
          "/usr/bin/bash", "-c",
          """
          set -e
          mkdir -p /output/sub; echo report > /output/sub/report.txt; chmod 4777 /output/sub/report.txt
          ln -s /etc/passwd /output/link; ln -s /proc/self/environ /output/magic; mkfifo /output/fifo
          ln /output/sub/report.txt /output/second 2>/dev/null && ln /output/second /output/third
          ln /input/a.txt /output/input 2>/dev/null && exit 9
          mknod /output/null c 1 3 2>/dev/null && exit 8
          echo 1 > /output/single
          echo '{"agree": 854}' > "$CORDON_RESULT"
          """,
        ].map { $0.replacing("$CORDON_RESULT", with: "/result/result.json") }
      ) { stage in
        _ = try stage.writeInput(name: "a.txt", bytes: [1])
      }
      #expect(ran.outcome == .succeeded, "\(ran.stderr)")
      let collected = try Outputs.collect(
        ran.report, approvedRoot: bench.approvedRoot, tenant: "acme", job: "j", attempt: 2, limits: Limits())
      #expect(collected.artifacts.map(\.path) == ["single"])
      #expect(
        Tree.reasons(collected) == [
          "link": "symlink", "magic": "symlink", "fifo": "fifo", "second": "hardlink", "third": "hardlink",
          "sub/report.txt": "hardlink",
        ])
      #expect(collected.result == .object(["agree": .integer(854)]))
      let path = try #require(try collected.publish())
      #expect(path == bench.approvedRoot + "/acme/j/2")
      #expect(try readFile(path + "/single") == "1\n")
    }
  }

  private func residentBytes() throws -> Int {
    let fields = try readFile("/proc/self/statm").split(separator: " ")
    return (Int(fields[1]) ?? 0) * Int(getpagesize())
  }
}
