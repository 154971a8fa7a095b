import Jobs
import Testing

@testable import Sandbox

/// Processor and wall time, as limits and as facts.
@Suite("Clocks", .serialized) struct ClockTests {
  private static let spin = "import time\nend = time.monotonic() + 1.2\nwhile time.monotonic() < end: pass"

  @Test func processorTimeIsLimited() async throws {
    try await withBench { (bench) async throws in
      let limited = try await bench.python(Self.spin, limits: Limits(cpuMillis: 200)).report
      // A period of 100 ms may be overrun by one slice at either end; the interpreter's start is part of it.
      #expect(limited.cpuSeconds <= limited.wallSeconds * 0.2 + 0.2)
      #expect(limited.cpuSeconds > 0.05)
      // The control: without the limit the same program takes much more. On a busy host others take the processors; once
      // is enough to show that nothing bounds it.
      var most = 0.0
      for _ in 0..<5 where most <= limited.cpuSeconds * 1.5 {
        most = max(most, try await bench.python(Self.spin, limits: Limits(cpuMillis: 1_000)).report.cpuSeconds)
      }
      #expect(most > limited.cpuSeconds * 1.5)
    }
  }

  @Test func wallTimeCoversTheWholeJob() async throws {
    try await withBench { (bench) async throws in
      let short = try await bench.bash("exit 0").report
      // On one processor nothing can use more processor time than passes.
      #expect(short.wallSeconds > 0.0005)
      #expect(short.wallSeconds < 5)
      let long = try await bench.bash("sleep 0.3").report
      #expect((0.3..<5).contains(long.wallSeconds))
    }
  }
}
