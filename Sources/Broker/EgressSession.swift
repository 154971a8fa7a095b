import Destinations
import FoundationEssentials
import NIOCore
import Synchronization

// One attempt's way out. Its doors are listeners in the attempt's own network namespace, one a grant and perhaps one for CONNECT;
// whatever comes in by one is this attempt's, so nobody is asked who he is.
//
// Order: a door accepts and says so (`accept`); a task serves the connection and asks here before each step (`allow`, `spend`), each
// answer being recorded before anything is done by it; its end comes back (`hangUp`). `cut` and `close` end what is open from any
// thread: the account refuses first, then the channels are closed, so that nothing new comes between.

/// The open egress of one attempt.
public final class EgressSession: Sendable {
  /// The attempt that everything here is done for.
  public let attempt: AttemptAddress
  /// The certificate, in PEM, that the cell has to trust for its grants of mode `inspect`; nil where it has none.
  public let authority: String?

  let broker: Broker
  let grants: [Grant]
  let limits: SessionLimits
  let credentials: any CredentialProvider
  let inspection: Inspection?
  /// What the attempt's principal may send over all of its attempts; nil: nobody counts that.
  private let allowance: EgressAllowance?
  private let record: @Sendable (LedgerLine) -> Void
  /// Takes out of a text what must not stand in the ledger.
  let conceal: @Sendable (String) -> String
  private let state: Mutex<State>

  private struct State {
    var account: EgressAccount
    var ledger: Ledger
    var doors: [any Channel] = []
    var wires: [ObjectIdentifier: Wire] = [:]
    var names = RecentNames()
    var waiting: [CheckedContinuation<Void, Never>] = []
    /// Read from one side and not yet taken by the kernel of the other, and the most there has been of it.
    var held = 0
    var mostHeld = 0
    var isSummedUp = false
  }

  init(
    broker: Broker, attempt: AttemptAddress, grants: [Grant], limits: SessionLimits,
    credentials: any CredentialProvider,
    inspection: Inspection?, allowance: EgressAllowance?, after before: LedgerSummary?,
    conceal: @escaping @Sendable (String) -> String,
    record: @escaping @Sendable (LedgerLine) -> Void
  ) {
    self.broker = broker
    self.attempt = attempt
    self.grants = grants
    self.limits = limits
    self.credentials = credentials
    self.inspection = inspection
    self.allowance = allowance
    authority = inspection?.authority
    self.record = record
    self.conceal = conceal
    state = Mutex(
      State(
        account: EgressAccount(limits: limits), ledger: Ledger(for: attempt, most: limits.ledgerLines, after: before)))
  }

  /// From now on no request gets a credential, and one that needs it is refused.
  public func stopInjecting(reason: String) {
    state.withLock { $0.account.withhold(Self.oneLine(reason)) }
  }

  /// Ends everything at once, whatever is under way: the doors, the job's connections and those to servers.
  /// - Parameter reason: for the ledger, in words.
  public func cut(reason: String) {
    let reason = "cut: \(Self.oneLine(reason))"
    let channels = state.withLock { state -> ([any Channel], [Wire]) in
      guard state.account.ended == nil else { return ([], []) }
      write(state.ledger.deny(reason, .init(), at: Self.now()))
      state.account.end(reason)
      return (state.doors, Array(state.wires.values))
    }
    for door in channels.0 { door.close(promise: nil) }
    for wire in channels.1 { wire.abort() }
  }

  /// Ends what is still open, waits until all of it has been recorded, and says what the ledger came to.
  public func close() async -> LedgerSummary {
    let (doors, wires) = state.withLock { state in
      state.account.end("the attempt has ended")
      return (state.doors, Array(state.wires.values))
    }
    for wire in wires { wire.abort() }
    for door in doors { try? await door.close() }
    await withCheckedContinuation { continuation in
      let isQuiet = state.withLock { state in
        if state.account.connections > 0 { state.waiting.append(continuation) }
        return state.account.connections == 0
      }
      if isQuiet { continuation.resume() }
    }
    return state.withLock { state in
      if !state.isSummedUp { write(state.ledger.lastLine(at: Self.now())) }
      state.isSummedUp = true
      return LedgerSummary(count: state.ledger.count, head: state.ledger.head, unrecorded: state.ledger.unrecorded)
    }
  }

  /// Bytes that the broker itself has held for this attempt at most.
  var mostHeld: Int { state.withLock { $0.mostHeld } }

  // MARK: For the connections

  /// False where the session has ended meanwhile.
  func keep(door: any Channel) -> Bool {
    state.withLock { state in
      if state.account.ended == nil { state.doors.append(door) }
      return state.account.ended == nil
    }
  }

  /// A wire that `cut` reaches; an error where it came too late.
  func keep(_ wire: Wire) throws(Denial) {
    let ended = state.withLock { state in
      if state.account.ended == nil { state.wires[ObjectIdentifier(wire)] = wire }
      return state.account.ended
    }
    if let ended { throw Denial(rule: ended) }
    wire.channel.closeFuture.whenComplete { _ in
      self.state.withLock { state in _ = state.wires.removeValue(forKey: ObjectIdentifier(wire)) }
    }
  }

  func recent(_ name: String) -> [IPAddress]? {
    state.withLock { $0.names.addresses(of: name, at: .now()) }
  }

  func keep(_ addresses: [IPAddress], of name: String) {
    state.withLock { $0.names.keep(addresses, of: name, at: .now()) }
  }

  /// False where the connection is to be closed at once.
  func accept(at grant: Grant?) -> Bool {
    do throws(Denial) {
      try state.withLock { (state) throws(Denial) in try state.account.accept() }
      return true
    } catch {
      deny(error, .init(grant: grant?.name, endpoint: grant?.endpoint.description))
      return false
    }
  }

  func hangUp() {
    let waiting = state.withLock { state in
      state.account.hangUp()
      guard state.account.connections == 0 else { return [CheckedContinuation<Void, Never>]() }
      defer { state.waiting = [] }
      return state.waiting
    }
    for continuation in waiting { continuation.resume() }
  }

  /// Counts and records what is about to be done; it may be done when this returns, and its end is told by `end`.
  func allow(
    _ use: EgressAccount.Use, of grant: Grant, rule: String, _ subject: LedgerLine.Subject
  ) throws(Denial) {
    let (rule, subject) = concealed(rule, subject)
    try state.withLock { (state) throws(Denial) in
      try allowance?.requireSome()
      try state.account.begin(use, of: grant)
      guard let line = state.ledger.allow(rule, subject, at: Self.now()) else { throw Denial(rule: Ledger.fullRule) }
      record(line)
    }
  }

  func mayInject(for grant: Grant) throws(Denial) {
    try state.withLock { (state) throws(Denial) in try state.account.mayInject(for: grant) }
  }

  func deny(_ denial: Denial, _ subject: LedgerLine.Subject) {
    let (rule, subject) = concealed(denial.rule, subject)
    state.withLock { state in
      // What knocks behind the end is no part of what was summed up.
      guard !state.isSummedUp else { return }
      write(state.ledger.deny(rule, subject, at: Self.now()))
      write(state.ledger.lastLine(at: Self.now()))
    }
  }

  func end(_ rule: String, _ subject: LedgerLine.Subject) {
    let (rule, subject) = concealed(rule, subject)
    state.withLock { state in
      record(state.ledger.close(rule, subject, at: Self.now()))
      write(state.ledger.lastLine(at: Self.now()))
    }
  }

  /// What a job asks for in its own words may be what a server has shown it of a credential (CR-13).
  private func concealed(_ rule: String, _ subject: LedgerLine.Subject) -> (String, LedgerLine.Subject) {
    var subject = subject
    subject.endpoint = subject.endpoint.map(conceal)
    subject.method = subject.method.map(conceal)
    subject.path = subject.path.map(conceal)
    return (conceal(rule), subject)
  }

  /// Before the bytes are passed on.
  /// - Parameter hidden: received and not told to the job: no amount of its grant counts them, or it would learn how many they are.
  func spend(sent: Int = 0, received: Int = 0, hidden: Int = 0, of grant: Grant) throws(Denial) {
    try state.withLock { (state) throws(Denial) in
      try state.account.spend(sent: sent, received: received, of: grant)
      try allowance?.spend(sent: sent, received: received + hidden, by: attempt.token)
      state.held += sent + received + hidden
      state.mostHeld = max(state.mostHeld, state.held)
    }
  }

  func release(_ bytes: Int) {
    state.withLock { $0.held -= bytes }
  }

  var ended: String? { state.withLock { $0.account.ended } }

  /// The lines come in their order, so within the lock: whoever takes them must not wait.
  private func write(_ line: LedgerLine?) {
    if let line { record(line) }
  }

  private static func now() -> String {
    Date().formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
  }

  private static func oneLine(_ text: String) -> String {
    String(text.unicodeScalars.map { $0.value > 31 && $0.value < 127 ? Character($0) : " " }.prefix(200))
  }
}
