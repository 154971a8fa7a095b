import EventThread
import Glibc
import Kernel

// What the jobs write, and the one timer of the sandbox's thread: bytes that waited long enough, cells that are overdue, a
// warden that does not leave. All of it runs on that thread.

extension Sandbox {
  /// From the word that it has started on: what a job shorter than that wrote is in its pipes when it has ended, and to be
  /// woken by their end would take the processor from whoever counts the job. A job that fills one sooner waits so long.
  func watchStreams(of identifier: UInt64) {
    for stream in StreamName.allCases {
      guard let descriptor = cells[identifier]?[stream].pipe?.raw else { continue }
      thread.watch(descriptor, events: Int16(POLLIN)) { _ in self.readOnce(identifier, stream) }
    }
  }

  private func readOnce(_ identifier: UInt64, _ stream: StreamName) {
    _ = read(identifier, stream)
    armTimer(for: identifier)
  }

  /// One read of one pipe. False when nothing is left in it.
  private func read(_ identifier: UInt64, _ stream: StreamName) -> Bool {
    guard let pipe = cells[identifier]?[stream].pipe else { return false }
    let count = Glibc.read(pipe.raw, &buffer, buffer.count)
    if count < 0 { return errno == EINTR }
    guard count > 0 else {
      closePipe(identifier, stream)
      return false
    }
    for chunk in cells[identifier]?[stream].capture.take(buffer[..<count], now: .now) ?? [] {
      hand(chunk, of: identifier, stream)
    }
    return true
  }

  private func hand(_ bytes: [UInt8], of identifier: UInt64, _ stream: StreamName) {
    cells[identifier]?.chunks.yield(OutputChunk(stream: stream.rawValue, bytes: bytes))
  }

  /// Hands on what has waited long enough, looks whether the warden still does its work, and sets the timer anew.
  private func timerFired() {
    armed = nil
    let now = ContinuousClock.now
    if cells.values.contains(where: { $0.overdue <= now }) { lose("it did not end a cell in time") }
    if let killWardenAt, killWardenAt <= now {
      self.killWardenAt = nil
      warden.kill()
    }
    for identifier in cells.keys {
      for stream in StreamName.allCases {
        guard let due = cells[identifier]?[stream].capture.due, due <= now,
          let bytes = cells[identifier]?[stream].capture.flush(now: now)
        else { continue }
        hand(bytes, of: identifier, stream)
      }
    }
    if let pipesAt, pipesAt <= now {
      self.pipesAt = nil
      // Without them the next job makes its own, and is told what fails.
      if pipes == nil { pipes = try? JobPipes() }
    }
    armTimer()
  }

  func keepPipes(at moment: ContinuousClock.Instant) {
    pipesAt = moment
    if moment < armed ?? Self.never { arm(moment) }
  }

  /// Short beside the pause between two jobs, long beside what is done for one.
  static let quiet = Duration.microseconds(1_500)
  private static var never: ContinuousClock.Instant { .now + .seconds(1 << 32) }

  func armTimer() {
    arm((cells.values.map(\.due) + [killWardenAt, pipesAt]).compactMap { $0 }.min())
  }

  /// After something that concerns one cell: with hundreds alive, to ask them all each time would cost more than the
  /// event. The timer may then fire for a cell that is gone; it only looks, and is set anew.
  func armTimer(for identifier: UInt64) {
    guard let due = cells[identifier]?.due, due < armed ?? Self.never else { return }
    arm(due)
  }

  private func arm(_ due: ContinuousClock.Instant?) {
    armed = due
    thread.setTimer(due) { self.timerFired() }
  }

  private func closePipe(_ identifier: UInt64, _ stream: StreamName) {
    guard let pipe = cells[identifier]?[stream].pipe else { return }
    thread.unwatch(pipe.raw)
    cells[identifier]?[stream].pipe = nil
  }

  /// Takes what the pipes of a finished cell still hold, then closes them. Bounded, because a cell that could not be
  /// emptied may write for ever.
  func drain(_ identifier: UInt64) {
    for stream in StreamName.allCases {
      var reads = 0
      while reads < Self.drainReads, read(identifier, stream) { reads += 1 }
      if let rest = cells[identifier]?[stream].capture.flush(now: .now) {
        hand(rest, of: identifier, stream)
      }
      closePipe(identifier, stream)
    }
  }

  /// A pipe holds at most `/proc/sys/fs/pipe-max-size`, by default 1 MiB; the job may have raised its own to that.
  private static let drainReads = 1_024
}
