import Testing

@testable import Worker

/// What a chore does that waits for somebody else's server.
@Suite("Waiting for what may hang") struct PatienceTests {
  @Test func whatIsOverInTimeIsTheOutcome() async {
    #expect(await outcome(of: Task { 7 }, within: .seconds(60)) == 7)
  }

  @Test("what hangs is waited for as long as was said, and goes on")
  func hangs() async {
    let (ends, end) = AsyncStream.makeStream(of: Void.self)
    let task = Task { () -> Int in
      for await _ in ends { break }
      return 7
    }
    #expect(await outcome(of: task, within: .milliseconds(10)) == nil)
    #expect(!task.isCancelled)
    end.yield()
    #expect(await task.value == 7)
  }

  @Test("who is cancelled does not wait for what hangs")
  func cancelled() async {
    let (ends, end) = AsyncStream.makeStream(of: Void.self)
    let task = Task { for await _ in ends { break } }
    let waiting = Task { await outcome(of: task, within: .seconds(3_600)) == nil }
    waiting.cancel()
    #expect(await waiting.value)
    end.yield()
  }
}
