import Destinations
import NIOCore
import Synchronization

// HTTP/1.1 read on both sides. For each request of a connection, in order: its head is read and judged; the credential is asked for; the
// decision is recorded; the server is dialled, unless it still is; the rewritten head goes out; body and response are passed on at the
// same time, since a server may answer before it has read everything. A refusal is answered and ends the connection: what follows a
// request that was not read to its end would be read as another one.

/// The connection to the server behind one grant, kept for the next request.
struct Upstream: Sendable {
  let grant: Grant
  let wire: Wire
  let address: IPAddress
}

extension Connection {
  /// Which grant a request is for; throws what is answered instead.
  typealias Router = @Sendable (RequestHead) throws(Denial) -> Grant

  /// - Parameters:
  ///   - first: a head that has been read already.
  ///   - defaultPort: what a Host without a port means.
  func serveRequests(first: RequestHead? = nil, defaultPort: UInt16, _ route: Router) async throws {
    var upstream: Upstream?
    var head = first
    var isFirst = true
    while true {
      do {
        if head == nil { head = try await requestHead(isFirst: isFirst, defaultPort: defaultPort) }
        guard let request = head else { return }
        (head, isFirst) = (nil, false)
        guard try await exchange(request, route, &upstream) else { return }
      } catch let denial as Denial {
        // What no request could be read of.
        session.deny(denial, .init(status: denial.status))
        return await answer(denial, to: nil)
      }
    }
  }

  /// False where the connection ends with it.
  private func exchange(_ head: RequestHead, _ route: Router, _ upstream: inout Upstream?) async throws -> Bool {
    // First concealed, then cut: of a secret that lies across the cut nothing would be found.
    let path = LedgerLine.Subject.shortened(session.conceal(head.path))
    var subject = LedgerLine.Subject(endpoint: head.endpoint.description, method: head.method, path: path)
    let grant: Grant
    let out: String
    var dialling: Dialling?
    do {
      grant = try route(head)
      (subject.grant, subject.endpoint) = (grant.name, grant.endpoint.description)
      try grant.judge(head, shown: path, most: limits.bodyBytes)
      let (injected, version) = try await injected(for: head, of: grant)
      if let known = upstream {
        let isQuiet = await known.wire.isQuiet()
        if known.grant != grant || !isQuiet {
          leave(known.wire)
          upstream = nil
        }
      }
      if upstream == nil { dialling = try await broker.dialling(grant, for: session, on: loop) }
      subject.address =
        upstream?.address.description ?? dialling?.candidates.map(\.description).joined(separator: ",")
      out = OutgoingHead.request(head, to: grant.endpoint, injected: injected)
      let rule = "grant \"\(grant.name)\": \(grant.route(for: head)?.description ?? "")" + version
      let use = EgressAccount.Use(connects: upstream == nil, requests: true, injects: !injected.isEmpty)
      try allow(use, of: grant, rule: rule, subject)
    } catch let denial as Denial {
      subject.status = denial.status
      session.deny(denial, subject)
      await answer(denial, to: head.method)
      return false
    }
    let progress = Progress(subject)
    do {
      if let dialling {
        let (wire, address) = try await dial(dialling, of: grant)
        upstream = Upstream(grant: grant, wire: wire, address: address)
      }
      guard let known = upstream else { return false }
      subject.address = known.address.description
      // To connect takes time, in which credentials may have been withdrawn.
      if grant.credential != nil { try session.mayInject(for: grant) }
      let goesOn = try await pass(head, as: out, to: known, progress)
      if goesOn { await known.wire.watch() }
      record(progress, nil, &subject)
      return goesOn
    } catch {
      let failure = settle(error, at: grant, progress)
      let hasBegun = progress.status != nil
      if !hasBegun { progress.status = failure.status }
      record(progress, reason ?? failure.rule, &subject)
      if !hasBegun, reason == nil { await answer(failure, to: head.method) }
      return false
    }
  }

  /// What the client is told of an error; what was refused by us is recorded before that, once.
  private func settle(_ error: any Error, at grant: Grant, _ progress: Progress) -> Denial {
    let failure =
      progress.refusal ?? (error as? Denial)
      ?? Denial(rule: "upstream: \(grant.endpoint) \(Self.words(error))", status: 502)
    if failure.status != 502, session.ended == nil, progress.isFirstRefusal() {
      session.deny(failure, progress.subject)
    }
    return failure
  }

  private func record(_ progress: Progress, _ reason: String?, _ subject: inout LedgerLine.Subject) {
    subject.status = progress.status
    (subject.sent, subject.received) = progress.meter.counts
    session.end(reason ?? "answered", subject)
  }

  private static func words(_ error: any Error) -> String {
    (error as? UpstreamFailure)?.reason ?? "broke: \(Broker.words(error))"
  }

  /// The fields of the grant's credential, and for the ledger which of its secrets they hold (CR-20); none where it names none.
  private func injected(
    for head: RequestHead, of grant: Grant
  ) async throws(Denial) -> (fields: [HeadSection.Field], version: String) {
    guard let name = grant.credential else { return ([], "") }
    let problem: String
    do {
      let request = Injection.OutgoingRequest(
        method: head.method, host: OutgoingHead.host(of: grant.endpoint), target: head.target,
        fields: OutgoingHead.kept(of: head))
      let injected = try await Deadline.first(within: limits.credential, on: loop) { [session] in
        guard let injection = try await session.credentials.injection(for: grant, attempt: session.attempt) else {
          return ([HeadSection.Field], String)?.none
        }
        return (try await injection.fields(for: request), injection.version)
      }
      if let (fields, version) = injected {
        return (fields, "; credential \(name)" + (version.isEmpty ? "" : ", \(version)"))
      }
      problem = "is not there"
    } catch let error as Injection.Unusable {
      problem = "is unusable: \(error)"
    } catch let refusal as CredentialRefusal {
      problem = "is refused: \(refusal.reason)"
    } catch {
      // What the provider says could hold what it knows.
      problem = "could not be had"
    }
    throw Denial(rule: "grant \"\(grant.name)\": its credential \(name) \(problem), and nothing is sent without it")
  }

  // MARK: Passing on

  /// How far an exchange has come; two tasks tell it.
  private final class Progress: Sendable {
    let subject: LedgerLine.Subject
    let meter = Meter()
    private let state = Mutex((status: Int?.none, refusal: Denial?.none, isSent: false, isRecorded: false))

    init(_ subject: LedgerLine.Subject) {
      self.subject = subject
    }

    func isFirstRefusal() -> Bool {
      state.withLock { state in
        defer { state.isRecorded = true }
        return !state.isRecorded
      }
    }

    var status: Int? {
      get { state.withLock { $0.status } }
      set { state.withLock { $0.status = newValue } }
    }
    /// Why the request's body was not passed on to its end.
    var refusal: Denial? {
      get { state.withLock { $0.refusal } }
      set { state.withLock { $0.refusal = newValue } }
    }
    var isSent: Bool {
      get { state.withLock { $0.isSent } }
      set { state.withLock { $0.isSent = newValue } }
    }
  }

  /// False where the connection ends with it.
  private func pass(
    _ head: RequestHead, as out: String, to upstream: Upstream, _ progress: Progress
  ) async throws -> Bool {
    let (outside, grant) = (upstream.wire, upstream.grant)
    try await pass(ByteBuffer(string: out), to: outside, of: grant, isSent: true, progress.meter)
    guard head.framing != .none else {
      progress.isSent = true
      return try await respond(to: head, from: outside, of: grant, progress)
    }
    // The client was told to wait for it; the server never is.
    if head.expectsContinue { try await inside.write("HTTP/1.1 100 Continue\r\n\r\n") }
    return try await withThrowingTaskGroup(of: Bool?.self) { group in
      group.addTask {
        await self.sendBody(of: head, to: outside, of: grant, progress)
        // What is left is read away, so that the client comes to read its answer.
        if !progress.isSent { await self.drain() }
        return nil
      }
      group.addTask { try await self.respond(whileSending: head, from: outside, of: grant, progress) }
      var goesOn = false
      while let result = try await group.next() { goesOn = result ?? goesOn }
      return goesOn
    }
  }

  /// The response, or an answer of our own; where the body is still under way behind it, for not much longer.
  private func respond(
    whileSending head: RequestHead, from outside: Wire, of grant: Grant, _ progress: Progress
  ) async throws -> Bool {
    defer {
      if !progress.isSent { loop.scheduleTask(in: Self.lingering) { self.inside.abort() } }
    }
    do { return try await respond(to: head, from: outside, of: grant, progress) } catch {
      outside.abort()
      if progress.status == nil, reason == nil {
        let failure = settle(error, at: grant, progress)
        progress.status = failure.status
        try? await inside.write(failure.answer(to: head.method))
        try? await inside.finish()
      }
      throw error
    }
  }

  private func sendBody(of head: RequestHead, to outside: Wire, of grant: Grant, _ progress: Progress) async {
    do {
      var decoder = try BodyDecoder(head.framing, most: limits.bodyBytes)
      try await copy(
        &decoder, from: inside, to: outside, isChunked: head.framing == .chunked, of: grant, true, progress)
      progress.isSent = true
    } catch let refusal as BodyDecoder.Refusal {
      progress.refusal = Denial(rule: "the request has \(refusal.reason)", status: 400)
      outside.abort()
    } catch let denial as Denial {
      progress.refusal = denial
      outside.abort()
    } catch {
      // The client broke off: what it began is not completed. Or the server did, which the response's reader sees.
      if progress.status == nil { outside.abort() }
    }
  }

  /// Streams a body from its framing into ours.
  /// - Parameter target: nil: it goes nowhere, and no amount of the grant counts it.
  private func copy(
    _ decoder: inout BodyDecoder, from source: Wire, to target: Wire?, isChunked: Bool, of grant: Grant,
    _ isSent: Bool, _ progress: Progress
  ) async throws {
    while !decoder.isDone {
      guard var input = try await read(source) else {
        try decoder.end()
        break
      }
      while let piece = try decoder.next(&input) {
        let count = piece.readableBytes
        let received = isSent ? 0 : count
        try session.spend(
          sent: isSent ? count : 0, received: target == nil ? 0 : received, hidden: target == nil ? received : 0,
          of: grant)
        defer { session.release(count) }
        if let target { try await write(isChunked ? Self.chunk(piece) : piece, to: target) }
        progress.meter.add(sent: isSent ? count : 0, received: isSent ? 0 : count)
      }
      try await source.unread(input)
    }
    if isChunked { try await target?.write("0\r\n\r\n") }
  }

  private static func chunk(_ piece: ByteBuffer) -> ByteBuffer {
    var chunk = ByteBuffer(string: "\(String(piece.readableBytes, radix: 16))\r\n")
    chunk.writeImmutableBuffer(piece)
    chunk.writeString("\r\n")
    return chunk
  }

  /// False where the connection ends with it.
  private func respond(
    to request: RequestHead, from outside: Wire, of grant: Grant, _ progress: Progress
  ) async throws -> Bool {
    let head = try await responseHead(to: request.method, from: outside)
    // Where the request's body is still under way, nobody can say when the next request begins.
    let isLast = request.asksToClose || !progress.isSent
    do {
      var decoder = try BodyDecoder(head.framing, most: limits.bodyBytes)
      switch grant.answer {
      case .whole:
        progress.status = head.status
        let text = OutgoingHead.response(head, to: request.method, isLast: isLast)
        try await pass(ByteBuffer(string: text), to: inside, of: grant, isSent: false, progress.meter)
        let isChunked = head.framing == .chunked || head.framing == .untilClose
        try await copy(&decoder, from: outside, to: inside, isChunked: isChunked, of: grant, false, progress)
      case .status:
        // First to the end of it, so that the job learns nothing from how it came.
        try await copy(&decoder, from: outside, to: nil, isChunked: false, of: grant, false, progress)
        progress.status = head.status
        let text = OutgoingHead.status(of: head, isLast: isLast)
        try await pass(ByteBuffer(string: text), to: inside, of: grant, isSent: false, progress.meter)
      }
    } catch let denial as Denial {
      progress.refusal = denial
      throw denial
    } catch let refusal as BodyDecoder.Refusal {
      // Of an answer whose status alone may be told, no size either.
      throw UpstreamFailure(reason: grant.answer == .status ? "sent a body that is not read" : "sent \(refusal.reason)")
    }
    if isLast { try? await inside.finish() }
    if isLast || !head.isPersistent || head.framing == .untilClose { outside.abort() }
    return !isLast
  }

  private func responseHead(to method: String, from outside: Wire) async throws -> ResponseHead {
    var bytes: [UInt8] = []
    var interim = 0
    while true {
      switch ResponseHead.read(bytes, answering: method) {
      case .head(let head, let count) where head.isInterim:
        // The client has its own from here, or has none to wait for.
        interim += 1
        guard interim <= 8 else { throw UpstreamFailure(reason: "sent interim responses without end") }
        bytes.removeFirst(count)
      case .head(let head, let count):
        try await outside.unread(ByteBuffer(bytes: bytes[count...]))
        return head
      case .refused(let reason): throw UpstreamFailure(reason: "answered with \(reason)")
      case .incomplete:
        guard let more = try await read(outside) else {
          throw UpstreamFailure(reason: bytes.isEmpty ? "ended without an answer" : "broke off within a head")
        }
        bytes += more.readableBytesView
      }
    }
  }

  // MARK: Answering

  /// Tells the client why, and lets it read that.
  func answer(_ denial: Denial, to method: String?) async {
    guard (try? await inside.write(denial.answer(to: method))) != nil else { return }
    try? await inside.finish()
    let alarm = loop.scheduleTask(in: Self.lingering) { self.inside.abort() }
    defer { alarm.cancel() }
    await drain()
  }

  private static var lingering: TimeAmount { .seconds(2) }

  /// Reads away what the client still sends. A connection that is closed with bytes unread takes back what was written to it.
  private func drain() async {
    while let bytes = try? await inside.read(), bytes.readableBytes > 0 {}
  }
}
