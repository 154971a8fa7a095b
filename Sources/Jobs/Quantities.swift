/// A size as people write it: digits and `B`, `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024) or `kB`, `MB`, `GB`
/// (powers of 1000). A bare number is bytes. The database reads the same spellings (`cordon.parse_size`).
public struct ByteCount: Equatable, Sendable {
  public let bytes: Int64

  public static let units: [(suffix: String, factor: Int64)] = [
    ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40),
    ("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("B", 1), ("", 1),
  ]

  /// Nil unless the whole text is a positive whole number and one known unit, and fits.
  public init?(_ text: String) {
    guard let (number, factor) = split(text, units: Self.units) else { return nil }
    let (bytes, overflow) = number.multipliedReportingOverflow(by: factor)
    guard !overflow, bytes > 0 else { return nil }
    self.bytes = bytes
  }
}

/// A time span as people write it: digits and `ms`, `s`, `m`, `h`, `d`. A bare number is refused, because
/// seconds and milliseconds are both obvious to somebody. The database reads the same (`cordon.parse_duration`).
public struct TimeSpan: Equatable, Sendable {
  public let milliseconds: Int64

  public static let units: [(suffix: String, factor: Int64)] = [
    ("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000),
  ]

  public init?(_ text: String) {
    guard let (number, factor) = split(text, units: Self.units) else { return nil }
    let (milliseconds, overflow) = number.multipliedReportingOverflow(by: factor)
    guard !overflow, milliseconds > 0 else { return nil }
    self.milliseconds = milliseconds
  }

  public var duration: Duration { .milliseconds(milliseconds) }
}

private func split(_ text: String, units: [(suffix: String, factor: Int64)]) -> (Int64, Int64)? {
  let digits = text.prefix { ("0"..."9").contains($0) }
  guard !digits.isEmpty, let number = Int64(digits) else { return nil }
  let suffix = text.dropFirst(digits.count)
  guard let unit = units.first(where: { $0.suffix == suffix }) else { return nil }
  return (number, unit.factor)
}
