import Store

/// Which requests go into one statement: a value, without I/O.
///
/// The first goes at once, alone; what comes while a statement is under way goes together in the next one. So a lone request
/// never waits for others, and the busier the worker, the larger its statements: they cost the server a commit each,
/// whatever is in them.
struct Gathering<Request> {
  private var waiting: [(job: JobID, request: Request)] = []
  private var isUnderWay = false

  /// A statement's answers say what became of a job, so one statement has a job once: an attempt that lost its lease and
  /// the next one of the same job may both end at a moment.
  private let most: Int

  /// - Parameter most: requests in one statement.
  init(most: Int) {
    self.most = most
  }

  /// - Returns: what is to be sent now; `answered` must follow it.
  mutating func add(_ request: Request, job: JobID) -> [Request]? {
    waiting.append((job, request))
    return isUnderWay ? nil : next()
  }

  /// The statement under way has been answered, or has failed.
  /// - Returns: what is to be sent now; `answered` must follow it.
  mutating func answered() -> [Request]? {
    isUnderWay = false
    return next()
  }

  private mutating func next() -> [Request]? {
    var jobs: Set<JobID> = []
    var chosen: [Request] = []
    var left: [(job: JobID, request: Request)] = []
    for entry in waiting {
      if chosen.count < most, jobs.insert(entry.job).inserted {
        chosen.append(entry.request)
      } else {
        left.append(entry)
      }
    }
    waiting = left
    isUnderWay = !chosen.isEmpty
    return chosen.isEmpty ? nil : chosen
  }
}
