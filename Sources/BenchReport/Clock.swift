import Glibc

/// Microseconds of the monotonic clock.
public func microseconds() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return Double(time.tv_sec) * 1e6 + Double(time.tv_nsec) / 1e3
}

/// Order statistics of samples.
extension [Double] {
  /// The smallest sample that at least this part of them does not exceed; nil without samples.
  public func quantile(_ part: Double) -> Double? {
    guard !isEmpty else { return nil }
    let index = Int((part * Double(count)).rounded(.up)) - 1
    return sorted()[Swift.max(0, Swift.min(count - 1, index))]
  }

  public var median: Double? { quantile(0.5) }
}
