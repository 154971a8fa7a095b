/// The protocol, and ways to get it wrong: each one takes away what a test says is needed.
public struct Rules: OptionSet, Sendable {
  public let rawValue: Int

  public init(rawValue: Int) {
    self.rawValue = rawValue
  }

  /// `complete` finds its lease by the job and not by the fencing token.
  public static let completeWithoutToken = Rules(rawValue: 1 << 0)
  /// `rescue` puts a job back and leaves the lease of whoever held it.
  public static let rescueLeavesLease = Rules(rawValue: 1 << 1)
  /// `complete` records whatever it is told, also when it is told twice.
  public static let completeTwice = Rules(rawValue: 1 << 2)
  /// `cancel` records a waiting job as cancelled and leaves it waiting.
  public static let cancelLeavesWaiting = Rules(rawValue: 1 << 3)
  /// `release` counts an attempt that never began.
  public static let releaseCountsUnstarted = Rules(rawValue: 1 << 4)
  /// `retire_worker` removes its row while leases name it, and `rescue` looks only at workers that have a row.
  public static let rescueForgetsRetired = Rules(rawValue: 1 << 5)
  /// `start` begins an attempt whose cancel was asked for.
  public static let startIgnoresCancel = Rules(rawValue: 1 << 6)
  /// `complete` answers a report that came again as late, and its worker withdraws what is recorded.
  public static let repeatIsLate = Rules(rawValue: 1 << 7)
  /// `settle_policies` takes back an attempt that has begun, as if it had not.
  public static let recallTakesStarted = Rules(rawValue: 1 << 8)
  /// `revoke` writes the last row and leaves the lease to its worker.
  public static let revokeLeavesLease = Rules(rawValue: 1 << 9)
}

/// What a state or a step does wrong.
public enum Violation: String, Sendable {
  case twoLeases = "two leases of a job are valid at once"
  case nowhere = "a job is neither over nor waiting nor leased"
  case twoPlaces = "a job is in two places"
  case twoFinals = "a job ended twice"
  case numbering = "attempts are not numbered 1, 2, 3, … without a gap"
  case afterTheEnd = "an attempt follows the final one"
  case withoutLease = "a completion was recorded without its lease"
  case ranCancelled = "a job ran that was cancelled before its claim"
  case startedCancelled = "an attempt began after its cancel was asked for"
  case begunTwice = "an attempt of one number began twice"
  case untrueAnswer = "a worker was told that its report is not recorded, and it is; or the other way round"
  case stuck = "a job is owed and nothing can end it any more"
}
