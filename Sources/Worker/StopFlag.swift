import Synchronization

/// Says to work that runs outside any actor (collecting outputs on a blocking thread) that it is no longer wanted.
final class StopFlag: Sendable {
  private let raised = Atomic(false)

  var isRaised: Bool { raised.load(ordering: .relaxed) }

  func raise() { raised.store(true, ordering: .relaxed) }
}
