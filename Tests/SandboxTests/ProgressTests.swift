import Jobs
import Testing

@testable import Sandbox

/// What a running job says of its progress, and what it may try with the file it says it in.
@Suite("Progress of running cells", .serialized) struct ProgressTests {
  /// Runs a job that makes the file, says `ready` and waits, and looks.
  private func progress(_ bench: Bench, after setup: String) async throws -> JSONValue? {
    let program = "import fcntl, os, time\nos.chdir('/result')\n\(setup)\nprint('ready', flush=True)\ntime.sleep(60)"
    let (cell, stage) = try await bench.start(["/usr/bin/python3", "-I", "-c", program])
    defer { stage.remove() }
    var printed: [UInt8] = []
    for await chunk in cell.output {
      printed += chunk.bytes
      if printed.contains(UInt8(ascii: "\n")) { break }
    }
    #expect(String(decoding: printed, as: UTF8.self) == "ready\n")
    let said = await cell.progress()
    cell.stop(.abandoned)
    _ = try await cell.report()
    #expect(await cell.progress() == nil, "a job that is over says nothing")
    return said
  }

  @Test func whatTheJobSaysIsSeenWhileItRuns() async throws {
    try await withBench { (bench) async throws in
      let said = try await progress(
        bench, after: "open('p', 'w').write('{\"done\": 3, \"of\": 10}'); os.rename('p', 'progress.json')")
      #expect(said == .object(["done": .integer(3), "of": .integer(10)]))
      #expect(try await progress(bench, after: "pass") == nil)
    }
  }

  @Test(
    "what is no small plain JSON file says nothing, and holds up nobody",
    arguments: [
      "os.symlink('/etc/passwd', 'progress.json')", "os.mkfifo('progress.json')", "os.mkdir('progress.json')",
      "open('other', 'w').write('{}'); os.link('other', 'progress.json')",
      "open('progress.json', 'w').write('{\"a\":')",
      "open('progress.json', 'w').write('\"' + 1024 * 'x' + '\"')", "open('progress.json', 'w').truncate(1 << 17)",
      "open('progress.json', 'w').write('\"\\\\u0000\"')",
    ])
  func hostile(setup: String) async throws {
    try await withBench { (bench) async throws in
      let began = ContinuousClock.now
      #expect(try await progress(bench, after: setup) == nil)
      #expect(ContinuousClock.now - began < .seconds(20))
    }
  }

  /// Opening a file that somebody holds a lease on waits, by default for 45 seconds, until it is given up.
  @Test func aLeaseOnTheFileHoldsUpNobody() async throws {
    try await withBench { (bench) async throws in
      let began = ContinuousClock.now
      _ = try await progress(
        bench,
        after: """
          f = open('progress.json', 'w'); f.write('{}'); f.flush()
          try: fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
          except OSError: pass
          """)
      #expect(ContinuousClock.now - began < .seconds(20))
    }
  }
}
