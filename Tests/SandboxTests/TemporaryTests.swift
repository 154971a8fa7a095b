import Jobs
import Testing

@testable import Sandbox

/// Whether what a job writes into `/tmp` can be executed there.
@Suite("Scratch", .serialized) struct TemporaryTests {
  /// Tries what could run a program, or map a library, that lies in `/tmp`; each line says how it went.
  private static let tries = """
    cp /usr/bin/true /tmp/program && chmod 755 /tmp/program
    if /tmp/program 2> /dev/null; then echo executed; else echo "execution refused"; fi
    echo 'echo interpreted' > /tmp/script && chmod 755 /tmp/script
    if /tmp/script 2> /dev/null; then :; else echo "script refused"; fi
    bash /tmp/script
    cp "$(find /usr/lib -name 'libz.so.1' -o -name 'libm.so.6' | head -n 1)" /tmp/library.so
    if LD_PRELOAD=/tmp/library.so /usr/bin/true 2>&1 | grep -q "cannot be preloaded"; then echo "library refused"
    else echo "library mapped"; fi
    grep ' /tmp ' /proc/self/mountinfo | cut -d ' ' -f 6
    """

  private func lines(_ isExecutable: Bool, in bench: Bench) async throws -> [String] {
    let (cell, stage) = try await bench.start(
      ["/usr/bin/bash", "-c", Self.tries], isTemporaryExecutable: isExecutable)
    defer { stage.remove() }
    let ran = try await bench.finish(cell)
    #expect(ran.outcome == .succeeded, "\(ran.stderr)")
    return ran.stdout.split(separator: "\n").map(String.init)
  }

  @Test("what lies in /tmp is executed only where the policy allows it; to read it is not to execute it")
  func executed() async throws {
    try await withBench { (bench) async throws in
      let usual = try await lines(true, in: bench)
      #expect(usual.dropLast() == ["executed", "interpreted", "interpreted", "library mapped"])
      #expect(usual.last?.split(separator: ",").contains("noexec") == false)
      // Of another shape: none that waits for the others may serve it.
      let strict = try await lines(false, in: bench)
      #expect(strict.dropLast() == ["execution refused", "script refused", "interpreted", "library refused"])
      #expect(strict.last?.split(separator: ",").contains("noexec") == true)
      #expect(try await lines(true, in: bench) == usual)
    }
  }

  @Test("an interpreter that waits has the same /tmp as one that is executed", arguments: ["interpreter", "zygote"])
  func warm(mode: String) async throws {
    try await withBench { (bench) async throws in
      let program = """
        import os, shutil, sys
        shutil.copy("/usr/bin/true", "/tmp/program")
        try:
            print(os.readlink("/proc/self/exe"), os.spawnv(os.P_WAIT, "/tmp/program", ["program"]))
        except OSError as error:
            print(os.readlink("/proc/self/exe"), type(error).__name__)
        """
      // Until its zygote is ready, a cell has an interpreter of its own; both are looked at.
      for _ in 0..<8 {
        let stage = try bench.sandbox.stage()
        defer { stage.remove() }
        _ = try stage.writeJobFile(name: "main.py", bytes: Array(program.utf8), executable: false)
        let cell = try await bench.sandbox.run(
          CellRequest(
            stage: stage, argv: ["/usr/bin/python3", "-I", "-B", "-u", "/job/main.py"],
            environment: [("PATH", "/usr/bin"), ("LANG", "C.UTF-8")], limits: Limits(wallMilliseconds: 60_000),
            warm: mode == "zygote" ? .forkedPython(imports: ["shutil"]) : .python(imports: ["shutil"]),
            isTemporaryExecutable: false))
        let ran = try await bench.finish(cell)
        #expect(ran.outcome == .succeeded && ran.stdout.hasSuffix(" 127\n"), "\(ran.stdout) \(ran.stderr)")
      }
    }
  }
}
