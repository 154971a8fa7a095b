import Jobs

/// How long at least what is over is kept, by class. `cordon.check_retention` judges the same.
enum PolicyRetention {
  /// Jobs with their attempts and ledgers; what they printed.
  static let classes = ["jobs", "logs"]

  /// Weeks are what is kept, so less than a day says nothing; a hundred years are the most that `cordon maintain keep` takes.
  private static let range: ClosedRange<Int64> = 86_400_000...3_155_760_000_000

  /// Nil for what is no duration within that.
  static func milliseconds(_ value: JSONValue) -> Int64? {
    value.string.flatMap(TimeSpan.init).map(\.milliseconds).flatMap { range.contains($0) ? $0 : nil }
  }
}
