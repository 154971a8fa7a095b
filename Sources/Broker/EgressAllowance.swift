import Synchronization

// Theory of operation: what a principal may send in a day, over many attempts and workers
//
// Who they are: the sessions of one principal's attempts on this worker, which spend; the worker, which reports to the database what
// they have spent, and hears what is left; other workers, which do the same.
//
//   spend     before bytes are passed on. All sessions draw on one amount, so one worker never passes what it was told.
//   report    what each attempt has used since its last report gets a number, and is said until it is answered: the database counts
//             a number once.
//   answer    what is left when all of the report is counted. What was spent meanwhile is taken off it here. An answer to what was
//             asked before the newest one that was heard says nothing of what is left: it may be older.
//
// Each worker knows of the others by their reports, so a budget is passed by no more than the others send between two reports.

/// What the attempts of one principal on this worker may send, and what they have used of it; a value, without I/O.
struct AllowanceAccount: Sendable {
  /// Bytes; nil where they are not bounded. Nothing until the database has been heard.
  private(set) var left: Int64? = 0
  private var attempts: [Int64: Attempt] = [:]
  private var batches: Int64 = 0
  private var heard: Int64 = 0

  private struct Attempt {
    var fresh = EgressAllowance.Amounts()
    var pending: EgressAllowance.Report?
  }

  var isEmpty: Bool { attempts.isEmpty }

  mutating func join(_ token: Int64) { attempts[token] = attempts[token] ?? Attempt() }

  mutating func leave(_ token: Int64) { attempts[token] = nil }

  /// False where so much is not left. Then what is left counts as used: it is of no use to who sends in larger pieces, and those who
  /// count elsewhere must come to the same end.
  mutating func spend(sent: Int64, received: Int64, by token: Int64) -> Bool {
    var attempt = attempts[token] ?? Attempt()
    defer { attempts[token] = attempt }
    if let left, sent > 0 {
      self.left = max(0, left - sent)
      guard sent <= left else {
        attempt.fresh.sent += left
        return false
      }
    }
    attempt.fresh.sent += sent
    attempt.fresh.received += received
    return true
  }

  /// Whether the database has still to be told of something that it counts.
  func owes(_ token: Int64) -> Bool {
    guard left != nil, let attempt = attempts[token] else { return false }
    return attempt.fresh != .init() || attempt.pending.map { $0.amounts != .init() } ?? false
  }

  mutating func report(number: () -> Int64) -> EgressAllowance.Batch {
    batches += 1
    for (token, attempt) in attempts where attempt.pending == nil {
      attempts[token]?.pending = EgressAllowance.Report(token: token, number: number(), amounts: attempt.fresh)
      attempts[token]?.fresh = .init()
    }
    return .init(number: batches, reports: attempts.values.compactMap(\.pending).sorted { $0.token < $1.token })
  }

  mutating func answered(_ batch: EgressAllowance.Batch, left answer: Int64?) {
    for report in batch.reports where attempts[report.token]?.pending == report {
      attempts[report.token]?.pending = nil
    }
    guard batch.number > heard else { return }
    heard = batch.number
    // What the answer cannot have counted.
    let spent = attempts.values.reduce(0) { $0 + $1.fresh.sent + ($1.pending?.amounts.sent ?? 0) }
    left = answer.map { max(0, $0 - spent) }
  }
}

/// What the attempts of one principal on this worker may send; shared by their sessions.
public final class EgressAllowance: Sendable {
  /// Bytes from the job and to the job.
  public struct Amounts: Sendable, Equatable {
    public var sent: Int64 = 0
    public var received: Int64 = 0

    public init() {}
  }

  /// What an attempt has used since its last report that was answered.
  public struct Report: Sendable, Equatable {
    /// The attempt's fencing token.
    public let token: Int64
    /// The same until it is answered.
    public let number: Int64
    public let amounts: Amounts
  }

  /// What is asked at once.
  public struct Batch: Sendable, Equatable {
    let number: Int64
    /// One for each attempt, also where it has used nothing.
    public let reports: [Report]
  }

  public let principal: String
  private let account = Mutex(AllowanceAccount())

  /// Of which nothing may be spent before an answer was heard.
  public init(of principal: String) {
    self.principal = principal
  }

  public func join(_ token: Int64) { account.withLock { $0.join(token) } }

  /// The attempt is over. True where it was the last one here.
  public func leave(_ token: Int64) -> Bool {
    account.withLock { account in
      account.leave(token)
      return account.isEmpty
    }
  }

  /// Whether the database has still to be told of something that it counts.
  public func owes(_ token: Int64) -> Bool { account.withLock { $0.owes(token) } }

  public func report() -> Batch {
    account.withLock { account in account.report { Int64.random(in: 1...Int64.max) } }
  }

  /// - Parameter left: by the database, with the batch counted; nil is without bounds.
  public func answered(_ batch: Batch, left: Int64?) { account.withLock { $0.answered(batch, left: left) } }

  /// Before anything is begun that has to send.
  func requireSome() throws(Denial) {
    if account.withLock({ $0.left == 0 }) { throw denial }
  }

  func spend(sent: Int, received: Int, by token: Int64) throws(Denial) {
    let isLeft = account.withLock { $0.spend(sent: Int64(sent), received: Int64(received), by: token) }
    if !isLeft { throw denial }
  }

  private var denial: Denial { Denial(rule: "principal \"\(principal)\" has used its egress of the day") }
}
