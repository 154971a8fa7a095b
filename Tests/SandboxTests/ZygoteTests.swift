import Glibc
import Jobs
import Kernel
import Testing

@testable import Sandbox

/// Cells forked from a started interpreter: as confined as others, alike to others, and what they share.
@Suite("Zygote", .serialized) struct ZygoteTests {
  private static let imports = ["json", "decimal"]

  /// Tells a cell that was forked from one whose interpreter was executed for it.
  private static let isForked = "/memfd:cordon-warden (deleted)"

  private struct Seen {
    var stdout: String
    var uid: UInt32
  }

  /// Runs a script in a cell of this runtime. Waits for a forked one where that is asked for: until its zygote is ready, a
  /// cell gets an interpreter of its own.
  private func run(
    _ script: String, _ warm: WarmRuntime, in bench: Bench, limits: Limits = Limits(wallMilliseconds: 60_000)
  ) async throws -> Seen {
    let end = ContinuousClock.now + .seconds(30)
    while true {
      let stage = try bench.sandbox.stage()
      defer { stage.remove() }
      let text = "import os\nprint(os.readlink('/proc/self/exe'))\n" + script
      _ = try stage.writeJobFile(name: "main.py", bytes: Array(text.utf8), executable: false)
      let cell = try await bench.sandbox.run(
        CellRequest(
          stage: stage, argv: ["/usr/bin/python3", "-I", "-B", "-u", "/job/main.py", "a"],
          environment: [("PATH", "/usr/bin"), ("LANG", "C.UTF-8")], limits: limits, warm: warm))
      let uid = cell.uid
      let ran = try await bench.finish(cell)
      try #require(ran.outcome == .succeeded, "\(ran.stderr)")
      let (program, rest) = ran.stdout.split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false).pair
      if case .python = warm { try #require(program != Self.isForked) }
      if case .python = warm { return Seen(stdout: rest, uid: uid) }
      if program == Self.isForked { return Seen(stdout: rest, uid: uid) }
      try #require(ContinuousClock.now < end, "no cell is forked: \(log(bench))")
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  private func log(_ bench: Bench) -> String { (try? readFile(bench.scratch.path + "/warden.log")) ?? "" }

  /// Whatever a program can see of how it was started.
  private static let looks = """
    import json, signal, sys, resource, threading, random, ctypes, locale
    print(sys.flags, sys.executable, sys.prefix, sys.exec_prefix, sys.base_prefix, sys.version)
    print(sys.path, sys.argv, sys.orig_argv, sys.warnoptions, sys._xoptions, sys.dont_write_bytecode)
    print(sys.getfilesystemencoding(), locale.getpreferredencoding(), locale.setlocale(locale.LC_ALL))
    for stream in (sys.stdin, sys.stdout, sys.stderr):
      print(stream.encoding, stream.errors, stream.line_buffering, stream.write_through, stream.fileno())
    print(sorted(sys.modules))
    print(sorted(vars()), __name__, __file__, os.getcwd(), sorted(os.environ.items()))
    print(sorted(os.listdir("/proc/self/fd")), os.getpgid(0) == os.getsid(0) == os.getpid(), os.umask(0o22))
    print(threading.active_count(), threading.main_thread() is threading.current_thread(), threading.get_native_id() == os.getpid())
    print([(s, signal.getsignal(s)) for s in signal.valid_signals()])
    print([(n, resource.getrlimit(getattr(resource, n))) for n in dir(resource) if n.startswith("RLIMIT_")])
    keep = ("Name", "Umask", "NoNewPrivs", "Seccomp", "Seccomp_filters", "Groups", "Sig", "Shd", "Cap", "Threads", "Cpus_allowed", "CoreDumping", "THP")
    print([l for l in open("/proc/self/status").read().splitlines() if l.startswith(keep)])
    print(open("/proc/self/cmdline").read().split(chr(0))[:4], open("/proc/self/comm").read(), os.stat("/proc/self/status").st_uid == os.getuid())
    print(len(os.listdir("/proc")) > 0, sorted(p for p in os.listdir("/proc") if p.isdigit()).__len__())
    print([l.split()[4:6] for l in open("/proc/self/mountinfo")])
    """

  @Test func aForkedInterpreterIsLikeOneThatWasExecuted() async throws {
    try await withBench { (bench) async throws in
      let executed = try await run(Self.looks, .python(imports: Self.imports), in: bench)
      let forked = try await run(Self.looks, .forkedPython(imports: Self.imports), in: bench)
      let lines = (executed.stdout, forked.stdout)
      let own = { (seen: Seen, text: Substring) in text.replacing("\(seen.uid)", with: "UID") }
      for (left, right) in zip(lines.0.split(separator: "\n"), lines.1.split(separator: "\n")) {
        #expect(own(executed, left) == own(forked, right))
      }
      #expect(lines.0.split(separator: "\n").count == lines.1.split(separator: "\n").count && lines.0.count > 2_000)
    }
  }

  private static let layout = """
    maps = [l.split() for l in open("/proc/self/maps")]
    libc = next(m[0] for m in maps if m[-1].endswith("libc.so.6"))
    stack = next(m[0] for m in maps if m[-1] == "[stack]")
    print(libc, stack, hash("a"))
    """

  /// The trade that the policy makes, and its bound: 256 cells have one layout, the next have another.
  @Test func theLayoutIsThatOfTheZygoteAndOfNothingElse() async throws {
    try await withBench { (bench) async throws in
      let forked = WarmRuntime.forkedPython(imports: [])
      let first = try await run(Self.layout, forked, in: bench)
      let second = try await run(Self.layout, forked, in: bench)
      #expect(first.stdout == second.stdout)
      let other = try await run(Self.layout, .forkedPython(imports: ["json"]), in: bench)
      let own = try await run(Self.layout, .python(imports: []), in: bench)
      #expect(Set([first, other, own].map(\.stdout)).count == 3)
      let libc = first.stdout.split(separator: " ")[0]
      #expect(
        try !readFile("/proc/\(bench.sandbox.facts.wardenProcessID)/maps").contains(libc), "the warden has another")
      var seen: [String: Int] = [:]
      for _ in 0..<300 { seen[try await run(Self.layout, forked, in: bench).stdout, default: 0] += 1 }
      #expect(seen.count == 2 && seen.values.allSatisfy { $0 <= 256 }, "\(seen.values)")
    }
  }

  /// What it is for.
  @Test func whatNobodyWritesToIsThereOnce() async throws {
    let script = """
      sizes = dict((f[0], int(f[1])) for f in map(str.split, open("/proc/self/smaps_rollup")) if f[0].endswith(":"))
      print(sizes["Private_Dirty:"] + sizes["Private_Clean:"])
      """
    try await withBench { (bench) async throws in
      let modules = ["json", "decimal", "datetime", "csv", "asyncio"]
      let own = try #require(Int(try await run(script, .python(imports: modules), in: bench).stdout.dropLast()))
      let forked = try #require(
        Int(try await run(script, .forkedPython(imports: modules), in: bench).stdout.dropLast()))
      #expect(forked * 2 < own, "\(forked) KiB of its own, not much less than \(own)")
    }
  }

  /// Neither what one writes nor what it opens is another's, or the zygote's.
  @Test func nothingOfOneIsInTheNext() async throws {
    let script = """
      import json, decimal, builtins, random
      print(hasattr(json, "mark"), hasattr(builtins, "mark"), decimal.getcontext().prec, "LEFT" in os.environ)
      json.mark = builtins.mark = 1
      decimal.getcontext().prec = 3
      os.environ["LEFT"] = "1"
      os.open("/tmp/left", os.O_CREAT | os.O_RDWR)
      print(os.path.exists("/output/left"), open("/output/left", "x").close())
      print(random.random(), os.urandom(8).hex())
      """
    try await withBench { (bench) async throws in
      var numbers = Set<Substring>()
      for _ in 0..<3 {
        let lines = try await run(script, .forkedPython(imports: Self.imports + ["random"]), in: bench).stdout.split(
          separator: "\n")
        #expect(lines.prefix(2) == ["False False 28 False", "False None"])
        numbers.insert(lines[2])
      }
      #expect(numbers.count == 3, "and chance is not the same for all")
    }
  }

  @Test func aCellForkedFromItIsBoundedAndEndsWithItsProcesses() async throws {
    try await withBench { (bench) async throws in
      _ = try await run("", .forkedPython(imports: []), in: bench)
      let stage = try bench.sandbox.stage()
      defer { stage.remove() }
      let script = """
        import os, sys
        print(os.readlink('/proc/self/exe'))
        if os.fork() == 0:
          os.setsid()
          while True: pass
        kept = bytearray(1)
        while True: kept += bytes(1 << 20)
        """
      _ = try stage.writeJobFile(name: "main.py", bytes: Array(script.utf8), executable: false)
      var limits = Limits(wallMilliseconds: 60_000)
      limits.memoryBytes = 48 << 20
      let cell = try await bench.sandbox.run(
        CellRequest(
          stage: stage, argv: ["/usr/bin/python3", "-I", "-B", "-u", "/job/main.py"], environment: [], limits: limits,
          warm: .forkedPython(imports: [])))
      let ran = try await bench.finish(cell)
      #expect(ran.stdout.hasPrefix(Self.isForked) && ran.outcome == .outOfMemory, "\(ran.outcome) \(ran.stdout)")
      #expect(try await eventually { try processes(of: cell.uid).isEmpty })
    }
  }

  /// A warden in a mount namespace of its own, where the host's Python is changed first; `change` is shell.
  private func withChangedPython(_ change: String, _ body: (Bench) async throws -> Void) async throws {
    let scratch = try Scratch()
    let modules = "/usr/local/lib/python3.11/dist-packages"
    let script = """
      #!/bin/bash
      exec unshare --mount bash -c 'modules=\(modules); set -e; \(change); exec \(wardenPath) "$@"' warden "$@"
      """
    var configuration = Bench.configuration(scratch)
    configuration.wardenPath = try scratch.file("warden", script, mode: 0o755)
    let sandbox = try await Sandbox.start(configuration)
    do {
      try await body(Bench(sandbox: sandbox, scratch: scratch, approvedRoot: scratch.path + "/approved"))
    } catch {
      await sandbox.shutdown()
      throw error
    }
    await sandbox.shutdown()
  }

  @Test(
    arguments: [
      (
        "threads", "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
        "1 threads"
      ),
      ("shared", "import mmap\nkept = mmap.mmap(-1, 4096)", "memory that jobs would share"),
      ("broken", "raise ValueError", "did not import"),
    ])
  func aModuleThatCannotBeForkedIsRefused(_ name: String, _ text: String, _ reason: String) async throws {
    let change =
      #"mount -t tmpfs tmpfs $modules; printf "%b" "\#(text.replacing("\n", with: #"\\n"#))" > $modules/cordon_\#(name).py"#
    try await withChangedPython(change) { bench in
      let error = await #expect(throws: (any Error).self) {
        // The first may be given an interpreter of its own, which bears what a fork does not.
        while true { _ = try await run("", .forkedPython(imports: ["cordon_" + name]), in: bench) }
      }
      if let error = error as? SandboxError {
        #expect(error.description.contains(name == "broken" ? "cordon_broken" : reason), "\(error)")
      } else {
        Issue.record("\(error as Any)")
      }
    }
  }

  @Test func aMissingLibraryIsNamed() async throws {
    let change = "for library in /usr/lib/*/libpython3*.so.1.0; do mount --bind /dev/null $library; done"
    try await withChangedPython(change) { bench in
      let error = await #expect(throws: SandboxError.self) {
        while true { _ = try await run("", .forkedPython(imports: []), in: bench) }
      }
      #expect(error?.description.contains("install libpython3") == true, "\(error as Any)")
    }
  }

  private func zygotes(of warden: Int32) throws -> [Int32] {
    try names(in: "/proc").compactMap { Int32($0) }.filter {
      let status = (try? readFile("/proc/\($0)/status")) ?? ""
      return status.contains("Name:\tcordon-zygote\n") && status.contains("PPid:\t\(warden)\n")
    }
  }

  @Test func oneThatDiesIsReplaced() async throws {
    try await withBench { (bench) async throws in
      let forked = WarmRuntime.forkedPython(imports: [])
      let before = try await run(Self.layout, forked, in: bench)
      let zygote = try #require(try zygotes(of: bench.sandbox.facts.wardenProcessID).first)
      kill(zygote, SIGKILL)
      // Some may have been forked from it already, and wait.
      var after = before
      for _ in 0..<32 where before.stdout == after.stdout { after = try await run(Self.layout, forked, in: bench) }
      #expect(before.stdout != after.stdout)
    }
  }

  /// One that hangs is not waited for: it is ended, and the warden goes on.
  @Test func oneThatHangsIsEnded() async throws {
    try await withBench { (bench) async throws in
      let forked = WarmRuntime.forkedPython(imports: [])
      _ = try await run("", forked, in: bench)
      let zygote = try #require(try zygotes(of: bench.sandbox.facts.wardenProcessID).first)
      kill(zygote, SIGSTOP)
      // An order meets it, or the pool does, which fills itself again; that stands in the log alone.
      do {
        for _ in 0..<32 where exists("/proc/\(zygote)") { _ = try await run("", forked, in: bench) }
      } catch let error as SandboxError {
        #expect(error.description.contains("did not answer in time"), "\(error)")
      }
      #expect(await eventually { !exists("/proc/\(zygote)") })
      #expect(try await bench.bash("echo on").stdout == "on\n")
    }
  }

  @Test(arguments: [SIGKILL, SIGTERM])
  func itEndsWithItsWarden(signal: Int32) async throws {
    let scratch = try Scratch()
    let sandbox = try await Sandbox.start(Bench.configuration(scratch))
    let bench = Bench(sandbox: sandbox, scratch: scratch, approvedRoot: scratch.path + "/approved")
    _ = try await run("", .forkedPython(imports: []), in: bench)
    let zygote = try #require(try zygotes(of: sandbox.facts.wardenProcessID).first)
    kill(sandbox.facts.wardenProcessID, signal)
    #expect(await eventually { !exists("/proc/\(zygote)") })
    await sandbox.shutdown()
  }
}

extension Array where Element == Substring {
  fileprivate var pair: (String, String) { (String(first ?? ""), count > 1 ? String(self[1]) : "") }
}
