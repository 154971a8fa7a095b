extension LeaseState {
  /// What is wrong with this state as such, or with having come to it from `before`.
  func problem(after before: LeaseState) -> Violation? {
    for job in Set(waiting.map(\.job)).union(leases.map(\.job)).union(attempts.map(\.job)) {
      let held = leases.filter { $0.job == job }.count
      let waits = waiting.filter { $0.job == job }.count
      let rows = attempts.filter { $0.job == job }
      let finals = rows.filter(\.final).count
      if held > 1 { return .twoLeases }
      if cancelledUnclaimed.contains(job) && held > 0 { return .ranCancelled }
      if finals > 1 { return .twoFinals }
      if held + waits + finals == 0 { return .nowhere }
      if held + waits + finals > 1 { return .twoPlaces }
      if rows.map(\.attempt) != (0..<rows.count).map({ UInt8($0 + 1) }) { return .numbering }
      if rows.dropLast().contains(where: \.final) { return .afterTheEnd }
      for place in waiting where place.job == job && Int(place.attempt) != rows.count { return .numbering }
      for lease in leases where lease.job == job && Int(lease.attempt) != rows.count + 1 { return .numbering }
    }
    for lease in before.leases where lease.started && waiting.contains(where: { $0.job == lease.job }) {
      // A number that a job's code has seen is not given again.
      guard attempts.contains(where: { $0.job == lease.job && $0.attempt == lease.attempt }) else { return .begunTwice }
    }
    for row in attempts.dropFirst(before.attempts.count) where row.via == .complete {
      guard before.leases.contains(where: { $0.job == row.job && $0.token == row.token && $0.attempt == row.attempt })
      else { return .withoutLease }
    }
    return nil
  }

  /// Nothing is owed any more; or nobody is left who could do it, and what is owed waits.
  var isSettled: Bool {
    leases.isEmpty && (waiting.isEmpty || processes.allSatisfy { $0.id == 0 })
  }
}
