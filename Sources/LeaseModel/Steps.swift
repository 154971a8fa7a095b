// Which actions are possible in a state, and what comes of each: the SQL functions of `Actions.swift` with the worker
// and the network around them.

extension LeaseState {
  /// The rules by which `steps` goes; nothing broken is the protocol.
  public func steps(rules: Rules = []) -> [(action: Action, next: LeaseState, problem: Violation?)] {
    var found: [(action: Action, next: LeaseState, problem: Violation?)] = []
    for process in processes.indices where processes[process].id != 0 {
      workerSteps(process, rules, &found)
    }
    for job in Set(leases.map(\.job)) where leases.contains(where: { $0.job == job && mayBeRescued($0, rules: rules) })
    {
      add(.rescue(job: job), &found) { $0.rescue(job: job, rules: rules) }
    }
    for lease in leases where mayBeRecalled(lease, rules: rules) {
      // An operator's deed, and as rare as a fault.
      add(.settlePolicies(job: lease.job), costs: 1, &found) { $0.settlePolicies(job: lease.job, rules: rules) }
    }
    for job in Set(leases.map(\.job)) {
      add(.revoke(job: job), costs: 1, &found) { $0.revoke(job: job, rules: rules) }
    }
    for job in Set(waiting.map(\.job)).union(leases.map(\.job)) where !cancelAsked.contains(job) {
      add(.cancel(job: job), &found) { $0.cancel(job: job, rules: rules) }
    }
    for number in late.indices { arrive(number, rules, &found) }
    timeSteps(&found)
    return found.map { ($0.action, $0.next.normalised(), $0.problem ?? $0.next.problem(after: self)) }
  }

  private typealias Found = [(action: Action, next: LeaseState, problem: Violation?)]

  private func add(_ action: Action, costs: UInt8 = 0, _ found: inout Found, _ change: (inout LeaseState) -> Void) {
    guard faults >= costs else { return }
    var next = self
    next.faults -= costs
    change(&next)
    found.append((action, next, nil))
  }

  private func addChecked(
    _ action: Action, costs: UInt8 = 0, _ found: inout Found, _ change: (inout LeaseState) -> Violation?
  ) {
    guard faults >= costs else { return }
    var next = self
    next.faults -= costs
    let problem = change(&next)
    found.append((action, next, problem))
  }

  private func workerSteps(_ process: Int, _ rules: Rules, _ found: inout Found) {
    let worker = processes[process].id
    if workers.contains(where: { $0.id == worker }) {
      for job in Set(waiting.map(\.job)) {
        for answer in [Action.Answer.heard, .lost, .late] {
          add(.claim(worker: worker, job: job, answer), costs: answer == .heard ? 0 : 1, &found) { next in
            guard let token = next.claim(worker: worker, job: job) else { return }
            switch answer {
            case .heard: next.processes[process].beliefs.append(Belief(job: job, token: token, phase: .claimed))
            case .lost: break
            case .late: next.late.append(.claimed(worker: worker, job: job, token: token))
            }
          }
          add(.claimBegun(worker: worker, job: job, answer), costs: answer == .heard ? 0 : 1, &found) { next in
            guard let token = next.claimBegun(worker: worker, job: job, rules: rules) else { return }
            switch answer {
            case .heard: next.processes[process].beliefs.append(Belief(job: job, token: token, phase: .running))
            case .lost: break
            // A worker that waited for it asks `start`, too.
            case .late: next.late.append(.claimed(worker: worker, job: job, token: token))
            }
          }
        }
      }
    }
    let tokens = processes[process].beliefs.map(\.token)
    for answer in [Action.Answer.heard, .lost, .late] {
      add(.heartbeat(worker: worker, answer), costs: answer == .heard ? 0 : 1, &found) { next in
        guard answer != .late else { return next.late.append(.heartbeat(worker: worker, tokens: tokens)) }
        let verdicts = next.heartbeat(worker: worker, tokens: tokens, rules: rules)
        if answer == .heard { next.processes[process].obey(verdicts) }
      }
    }
    for belief in processes[process].beliefs { beliefSteps(process, worker, belief, rules, &found) }
    add(.retireWorker(worker: worker), costs: 1, &found) { next in
      next.retireWorker(worker, rules: rules)
      next.processes[process] = WorkerProcess(id: 0)
    }
    add(.crash(worker: worker), costs: 1, &found) { next in
      let id = next.workers.map(\.id).max().map { Swift.max($0, worker) + 1 } ?? worker + 1
      next.processes[process] = WorkerProcess(id: id)
      next.workers.append(WorkerRow(id: id))
    }
  }

  private func beliefSteps(
    _ process: Int, _ worker: UInt8, _ belief: Belief, _ rules: Rules, _ found: inout Found
  ) {
    let (job, token) = (belief.job, belief.token)
    for answer in [Action.Answer.heard, .lost, .late] {
      let costs: UInt8 = answer == .heard ? 0 : 1
      switch belief.phase {
      case .claimed:
        addChecked(.start(worker: worker, token: token, answer), costs: costs, &found) { next in
          guard answer != .late else {
            next.late.append(.start(worker: worker, job: job, token: token))
            return nil
          }
          let cancelled = next.leases.contains { $0.token == token && $0.cancel }
          let begins = next.start(worker: worker, job: job, token: token, rules: rules)
          if answer == .heard {
            next.processes[process].change(token, to: begins ? .running : .ended(.cancelled))
            if begins && cancelled { return .startedCancelled }
          }
          return nil
        }
      case .running: break
      case .ended(let outcome):
        addChecked(.complete(worker: worker, token: token, outcome, answer), costs: costs, &found) { next in
          guard answer != .late else {
            next.late.append(.complete(worker: worker, job: job, token: token, outcome))
            return nil
          }
          let recorded = next.complete(worker: worker, job: job, token: token, outcome: outcome, rules: rules)
          guard answer == .heard else { return nil }
          next.processes[process].forget(token)
          let stands = next.attempts.contains { $0.job == job && $0.token == token && $0.via == .complete }
          // To be told nothing is no lie: the directory stays until the database is asked about it.
          return recorded.map { $0 == stands } ?? true ? nil : .untrueAnswer
        }
      }
      // A worker that fails at its own part, or was told to stop, gives back.
      let started = belief.phase != .claimed
      add(.release(worker: worker, token: token, started: started, answer), costs: 1, &found) { next in
        guard answer != .late else {
          return next.late.append(.release(worker: worker, job: job, token: token, started: started))
        }
        next.giveBack(worker: worker, job: job, token: token, started: started, rules: rules)
        if answer == .heard { next.processes[process].forget(token) }
      }
    }
    if belief.phase == .running {
      for outcome in [Outcome.succeeded, .failed] {
        add(.end(token: token, outcome), &found) { $0.processes[process].change(token, to: .ended(outcome)) }
      }
    }
  }

  private func arrive(_ number: Int, _ rules: Rules, _ found: inout Found) {
    add(.arrive(number: number), &found) { next in
      switch next.late.remove(at: number) {
      case .start(let worker, let job, let token):
        _ = next.start(worker: worker, job: job, token: token, rules: rules)
      case .complete(let worker, let job, let token, let outcome):
        _ = next.complete(worker: worker, job: job, token: token, outcome: outcome, rules: rules)
      case .release(let worker, let job, let token, let started):
        next.giveBack(worker: worker, job: job, token: token, started: started, rules: rules)
      case .heartbeat(let worker, let tokens):
        _ = next.heartbeat(worker: worker, tokens: tokens, rules: rules)
      case .claimed(let worker, let job, let token):
        guard let process = next.processes.firstIndex(where: { $0.id == worker }) else { return }
        next.processes[process].beliefs.append(Belief(job: job, token: token, phase: .claimed))
      }
    }
  }

  /// What passing time makes true. That a worker which died falls silent, and that a deadline passes, costs nothing: it
  /// only has to be waited for.
  private func timeSteps(_ found: inout Found) {
    for row in workers.indices where !workers[row].silent {
      let isAlive = processes.contains { $0.id == workers[row].id }
      add(.silence(worker: workers[row].id), costs: isAlive ? 1 : 0, &found) { $0.workers[row].silent = true }
    }
    for lease in leases.indices {
      if !leases[lease].overdue {
        let isKnown = processes.contains { $0.beliefs.contains { $0.token == leases[lease].token } }
        add(.deadline(token: leases[lease].token), costs: isKnown ? 1 : 0, &found) { $0.leases[lease].overdue = true }
      }
      if !leases[lease].old {
        add(.ages(token: leases[lease].token), &found) { $0.leases[lease].old = true }
      }
    }
  }

  /// One form of states that differ in the order of lists only.
  private func normalised() -> LeaseState {
    var state = self
    state.waiting.sort { ($0.job, $0.attempt) < ($1.job, $1.attempt) }
    state.leases.sort { $0.token < $1.token }
    for process in state.processes.indices { state.processes[process].beliefs.sort { $0.token < $1.token } }
    // A row without a lease whose process is gone can do nothing any more but let late calls in; it stays.
    state.workers.sort { $0.id < $1.id }
    return state
  }
}

extension WorkerProcess {
  mutating func change(_ token: UInt8, to phase: Belief.Phase) {
    guard let index = beliefs.firstIndex(where: { $0.token == token }) else { return }
    beliefs[index].phase = phase
  }

  mutating func forget(_ token: UInt8) {
    beliefs.removeAll { $0.token == token }
  }

  /// Nil: the database knows this worker no more, and what it held is others'.
  mutating func obey(_ verdicts: [UInt8: Bool]?) {
    guard let verdicts else { return beliefs.removeAll() }
    for (token, cancel) in verdicts {
      if !cancel {
        forget(token)
      } else if beliefs.contains(where: { $0.token == token && $0.phase == .running }) {
        change(token, to: .ended(.cancelled))
      }
    }
  }
}
