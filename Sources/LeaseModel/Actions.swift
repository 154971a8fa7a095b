/// One step: a call of an SQL function, or something that happens.
public enum Action: Hashable, Sendable {
  public enum Answer: Hashable, Sendable {
    case heard
    /// Executed, and the answer never arrived.
    case lost
    /// Sent, given up by its caller, executed later.
    case late
  }

  case claim(worker: UInt8, job: UInt8, Answer)
  case claimBegun(worker: UInt8, job: UInt8, Answer)
  case start(worker: UInt8, token: UInt8, Answer)
  case heartbeat(worker: UInt8, Answer)
  case complete(worker: UInt8, token: UInt8, Outcome, Answer)
  case release(worker: UInt8, token: UInt8, started: Bool, Answer)
  case rescue(job: UInt8)
  case cancel(job: UInt8)
  case settlePolicies(job: UInt8)
  case revoke(job: UInt8)
  case retireWorker(worker: UInt8)
  /// What was late is executed, or heard, now.
  case arrive(number: Int)
  // What only happens.
  case end(token: UInt8, Outcome)
  case silence(worker: UInt8)
  case deadline(token: UInt8)
  case ages(token: UInt8)
  case crash(worker: UInt8)
}

extension LeaseState {
  /// How often a job is tried.
  static let maxAttempts: UInt8 = 2

  // MARK: The SQL functions. Each is one transaction; `rules` are what is broken.

  mutating func claim(worker: UInt8, job: UInt8) -> UInt8? {
    guard let place = waiting.firstIndex(where: { $0.job == job }) else { return nil }
    let token = nextToken
    nextToken += 1
    leases.append(Lease(job: job, token: token, worker: worker, attempt: waiting[place].attempt + 1))
    waiting.remove(at: place)
    return token
  }

  mutating func claimBegun(worker: UInt8, job: UInt8, rules: Rules) -> UInt8? {
    let token = claim(worker: worker, job: job)
    if let token { _ = start(worker: worker, job: job, token: token, rules: rules) }
    return token
  }

  mutating func start(worker: UInt8, job: UInt8, token: UInt8, rules: Rules) -> Bool {
    guard workers.contains(where: { $0.id == worker }),
      let held = leases.firstIndex(where: { $0.job == job && $0.token == token && $0.worker == worker }),
      !leases[held].cancel || rules.contains(.startIgnoresCancel)
    else { return false }
    if !leases[held].started {
      leases[held].started = true
      leases[held].overdue = false
    }
    return true
  }

  /// Returns the verdicts; true is `cancel`, false `lost`. Nil to a worker that is not known.
  mutating func heartbeat(worker: UInt8, tokens: [UInt8], rules: Rules) -> [UInt8: Bool]? {
    guard let row = workers.firstIndex(where: { $0.id == worker }) else { return nil }
    workers[row].silent = false
    for lease in leases where lease.worker == worker && lease.old && !tokens.contains(lease.token) {
      giveBack(worker: worker, job: lease.job, token: lease.token, started: false, rules: rules)
    }
    var verdicts: [UInt8: Bool] = [:]
    for token in tokens {
      if let lease = leases.first(where: { $0.token == token && $0.worker == worker }) {
        if lease.cancel { verdicts[token] = true }
      } else {
        verdicts[token] = false
      }
    }
    return verdicts
  }

  /// `recorded`; nil to a worker that is not known.
  mutating func complete(worker: UInt8, job: UInt8, token: UInt8, outcome: Outcome, rules: Rules) -> Bool? {
    guard workers.contains(where: { $0.id == worker }) else { return nil }
    let held = leases.firstIndex {
      $0.job == job && (rules.contains(.completeWithoutToken) || ($0.token == token && $0.worker == worker))
    }
    guard let held else {
      guard let before = attempts.first(where: { $0.job == job && $0.token == token && $0.via == .complete }) else {
        return false
      }
      if rules.contains(.completeTwice) { attempts.append(before) }
      return !rules.contains(.repeatIsLate)
    }
    let lease = leases.remove(at: held)
    let final = outcome == .succeeded || outcome == .cancelled || lease.cancel || lease.attempt >= Self.maxAttempts
    attempts.append(
      AttemptRow(
        job: job, attempt: lease.attempt, final: final, via: .complete, outcome: outcome, token: token))
    if !final { waiting.append(Waiting(job: job, attempt: lease.attempt)) }
    return true
  }

  mutating func giveBack(worker: UInt8, job: UInt8, token: UInt8, started: Bool, rules: Rules) {
    guard workers.contains(where: { $0.id == worker }),
      let held = leases.firstIndex(where: { $0.job == job && $0.token == token && $0.worker == worker })
    else { return }
    let lease = leases.remove(at: held)
    let begun = lease.started || started
    let final = lease.cancel || (begun && lease.attempt >= Self.maxAttempts)
    if begun || lease.cancel {
      attempts.append(
        AttemptRow(
          job: job, attempt: lease.attempt, final: final, via: .release, outcome: lease.cancel ? .cancelled : .lost,
          token: token))
    }
    if !final {
      let counts = begun || rules.contains(.releaseCountsUnstarted)
      waiting.append(Waiting(job: job, attempt: counts ? lease.attempt : lease.attempt - 1))
    }
  }

  func mayBeRescued(_ lease: Lease, rules: Rules) -> Bool {
    if lease.overdue && !rules.contains(.rescueForgetsRetired) { return true }
    guard let row = workers.first(where: { $0.id == lease.worker }) else {
      return !rules.contains(.rescueForgetsRetired)
    }
    return row.silent
  }

  mutating func rescue(job: UInt8, rules: Rules) {
    guard let held = leases.firstIndex(where: { $0.job == job && mayBeRescued($0, rules: rules) }) else { return }
    let lease = leases[held]
    if !rules.contains(.rescueLeavesLease) { leases.remove(at: held) }
    let final = lease.cancel || lease.attempt >= Self.maxAttempts
    attempts.append(
      AttemptRow(
        job: job, attempt: lease.attempt, final: final, via: .rescue,
        outcome: lease.cancel && !lease.started ? .cancelled : .lost, token: lease.token))
    if !final { waiting.append(Waiting(job: job, attempt: lease.attempt)) }
  }

  /// Takes a claim back whose policy does not stand; for the model, any that has not begun.
  mutating func settlePolicies(job: UInt8, rules: Rules) {
    guard let held = leases.firstIndex(where: { $0.job == job && mayBeRecalled($0, rules: rules) }) else { return }
    let lease = leases.remove(at: held)
    waiting.append(Waiting(job: job, attempt: lease.attempt - 1))
  }

  /// Kills: what has begun is over, and its lease is gone; what has not is taken back (and held, which to the model is waiting).
  mutating func revoke(job: UInt8, rules: Rules) {
    guard let held = leases.firstIndex(where: { $0.job == job }) else { return }
    guard leases[held].started || leases[held].cancel else { return settlePolicies(job: job, rules: rules) }
    let lease = rules.contains(.revokeLeavesLease) ? leases[held] : leases.remove(at: held)
    attempts.append(
      AttemptRow(
        job: job, attempt: lease.attempt, final: true, via: .revoke, outcome: .cancelled, token: lease.token))
  }

  func mayBeRecalled(_ lease: Lease, rules: Rules) -> Bool {
    (!lease.started || rules.contains(.recallTakesStarted)) && !lease.cancel
  }

  mutating func cancel(job: UInt8, rules: Rules) {
    cancelAsked.insert(job)
    if let place = waiting.firstIndex(where: { $0.job == job }) {
      let attempt = waiting[place].attempt + 1
      if !rules.contains(.cancelLeavesWaiting) { waiting.remove(at: place) }
      attempts.append(
        AttemptRow(job: job, attempt: attempt, final: true, via: .cancel, outcome: .cancelled, token: 0))
      cancelledUnclaimed.insert(job)
    } else if let held = leases.firstIndex(where: { $0.job == job }) {
      leases[held].cancel = true
    }
  }

  mutating func retireWorker(_ worker: UInt8, rules: Rules) {
    guard let row = workers.firstIndex(where: { $0.id == worker }) else { return }
    if leases.contains(where: { $0.worker == worker }) && !rules.contains(.rescueForgetsRetired) {
      workers[row].silent = true
    } else {
      workers.remove(at: row)
    }
  }
}
