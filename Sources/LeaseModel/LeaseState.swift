// The lease protocol as a model: what sql/migrations/0010, 0019, 0021, 0025, 0028 and 0040 do to `ready`, `lease` and `attempt`,
// and what workers believe meanwhile. `Actions.swift` has one action for each SQL function, under its name; `Explorer.swift` goes
// through every state that any order of them leads to.
//
// Modelled: one call is one step, as it is one transaction. A call may be executed and its answer lost; it may be
// executed late, when its caller has long given up and asked again; the answer of a claim may come late. A worker may
// die at any moment and is another worker when it comes back. Time is what others notice of it: a worker is silent for a
// lease, a lease is past its deadline, a claim is older than any slow answer. Each of these, and each lost or late
// message, is a fault, and a state has a number of them to spend, so that there are finitely many states.
//
// Not modelled: what a cell does while its worker is paused (only what may be recorded is promised then), locks within
// a call, queues, lanes, schedules, workflows, breakers, policies. A retry's delay is no time here: what waits for it is
// `waiting` like the rest. That SQL does what a step says is the matter of StoreTests and `ops/faults`.

/// A worker's right to one attempt: a row of `lease`.
public struct Lease: Hashable, Sendable {
  var job: UInt8
  var token: UInt8
  var worker: UInt8
  var attempt: UInt8
  var started = false
  var cancel = false
  /// Past `deadline_at`.
  var overdue = false
  /// Claimed so long ago that no answer to the claim is under way any more.
  var old = false
}

public enum Outcome: UInt8, Hashable, Sendable {
  case succeeded, failed, cancelled, lost
}

/// A row of `attempt`.
public struct AttemptRow: Hashable, Sendable {
  public enum Via: UInt8, Hashable, Sendable { case complete, release, rescue, cancel, revoke }

  var job: UInt8
  var attempt: UInt8
  var final: Bool
  var via: Via
  var outcome: Outcome
  /// 0 where no lease was held.
  var token: UInt8
}

/// What a worker process thinks it holds.
struct Belief: Hashable, Sendable {
  enum Phase: Hashable, Sendable {
    case claimed
    case running
    case ended(Outcome)
  }

  var job: UInt8
  var token: UInt8
  var phase: Phase
}

struct WorkerProcess: Hashable, Sendable {
  /// The id it registered under; 0 once it has left.
  var id: UInt8
  var beliefs: [Belief] = []
}

/// A row of `worker`.
struct WorkerRow: Hashable, Sendable {
  var id: UInt8
  var silent = false
}

/// What is on its way and will not be waited for.
enum Message: Hashable, Sendable {
  case start(worker: UInt8, job: UInt8, token: UInt8)
  case complete(worker: UInt8, job: UInt8, token: UInt8, Outcome)
  case release(worker: UInt8, job: UInt8, token: UInt8, started: Bool)
  case heartbeat(worker: UInt8, tokens: [UInt8])
  /// The answer of a claim, to the process of that id.
  case claimed(worker: UInt8, job: UInt8, token: UInt8)
}

/// Database, workers and network at one moment.
public struct LeaseState: Hashable, Sendable {
  struct Waiting: Hashable, Sendable {
    var job: UInt8
    /// Attempts that are over.
    var attempt: UInt8
  }

  /// The tables `ready` and `scheduled`; a list, so that a job that stands there twice can be seen.
  var waiting: [Waiting]
  var leases: [Lease] = []
  var attempts: [AttemptRow] = []
  var workers: [WorkerRow]
  var processes: [WorkerProcess]
  var late: [Message] = []
  var nextToken: UInt8 = 1
  var faults: UInt8
  /// Jobs somebody asked to cancel; and those of which the answer was `cancelled`, before any claim.
  var cancelAsked: Set<UInt8> = []
  var cancelledUnclaimed: Set<UInt8> = []

  public init(jobs: Int, workers: Int, faults: Int) {
    waiting = (0..<jobs).map { Waiting(job: UInt8($0), attempt: 0) }
    self.workers = (1...workers).map { WorkerRow(id: UInt8($0)) }
    processes = (1...workers).map { WorkerProcess(id: UInt8($0)) }
    self.faults = UInt8(faults)
  }

  func isOver(_ job: UInt8) -> Bool { attempts.contains { $0.job == job && $0.final } }
}
