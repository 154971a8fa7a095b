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

  /// The end of time where the sum is beyond it: spans come from the worker, and no message may trap.
  func advanced(milliseconds: Int64) -> Instant {
    let (span, isTooLong) = milliseconds.multipliedReportingOverflow(by: 1_000)
    let (moment, isTooLate) = microseconds.addingReportingOverflow(span)
    return Instant(microseconds: isTooLong || isTooLate ? (milliseconds < 0 ? .min : .max) : moment)
  }
}
