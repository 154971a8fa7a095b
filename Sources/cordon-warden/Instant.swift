import Glibc

/// Microseconds of the monotonic clock, which has no namespace of its own in a cell.
struct Instant: Comparable {
  var microseconds: Int64

  static var now: Instant {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Instant(microseconds: Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000)
  }

  static func < (left: Instant, right: Instant) -> Bool { left.microseconds < right.microseconds }

  func advanced(milliseconds: Int64) -> Instant { Instant(microseconds: microseconds + milliseconds * 1_000) }
}
