import EventThread
import Glibc
import Jobs
import Kernel
import WardenProtocol

// Theory of operation
//
// Four kinds of process take part in one job, and under some policies a fifth:
//
//   worker   holds the database login; this target runs in it. Writes the stage (program, inputs), asks for cells,
//            reads the job's streams, takes the outputs over. Never forks a job, never enters a cell.
//   warden   `cordon-warden`, one for each worker, spawned here. Makes, stops and counts cells; has the rights that
//            takes and nothing else: no login, no environment of the worker's, no descriptor but 0, 1, 2 and 3, no network,
//            and no system call that making cells does not take.
//   init     process 1 of each cell, `cordon-cell init`. Holds its namespaces and reaps what the job leaves; without
//            rights, on a uid that is no job's, outside the job's groups.
//   job      the untrusted program: descriptors 0, 1, 2, no capability, a uid of its own for as long as it lives. It begins
//            in the warden's memory, while the warden waits, as the process that builds the cell and makes itself as
//            harmless as the job; then it executes `cordon-cell job`, a page of code that waits for the order.
//   zygote   the warden's program once more, with python3 as a library, in the warden's namespaces and under its filter.
//            Never runs a job; where a policy says so, job processes are forked from it instead (`ZygoteProcess`).
//
// Cells are built before they are asked for, each for a shape (limits and runtime), up to `SandboxConfiguration.pool`;
// one that is asked for in vain is built on the spot, by the same code. A cell is used once.
//
// Who may say what is decided by which descriptor it is said on, and each descriptor has one speaker:
//
//   control socket (3 in the warden)   orders from us, facts from the warden. Messages are those of WardenProtocol;
//                                      it says so itself that their order is. End of file means that the other side
//                                      is dead: the warden then kills every cell; we fail every report and refuse
//                                      to run anything more, because nobody enforces limits or can state facts.
//   stdout and stderr pipes            bytes of the job, and of whoever in the cell inherited them. They are data;
//                                      nothing is ever parsed from them. The write ends are closed here as soon as
//                                      the order is sent.
//   stdin                              a sealed memory file with the bytes of the specification, or /dev/null.
//   /output and /result roots          arrive with `finished`, that is when the cell's cgroup is empty; what lies
//                                      beneath is hostile but can no longer change. `Outputs` reads it.
//   /result root, once more            arrives with `started`: what the job says of its progress is read from there while
//                                      it runs, at most a page, by an open that waits for nobody.
//
// Order of one run: the stage is complete before the order is sent, since the job may start at any time after;
// `started`, `refused` or, of a job that is over by then, `finished` answers the order; the warden alone keeps the wall
// clock. On `finished` the pipes are drained of what is in them and closed, without waiting for end of file: no process of
// the cell exists any more, and if somebody outside has come to hold the pipe open, that must not hold up a report.
//
// One thread serves everything: it is this actor's executor, and polls the control socket and all pipes. What the
// job writes beyond its cap is read, counted and forgotten, so a flood costs time on this thread but no memory; one
// read a pipe and round keeps a flooding job from starving its neighbours and the control socket.

/// The worker's side of the cells: one warden, any number of running cells.
///
/// `shutdown` must be called when it is no longer needed.
public actor Sandbox {
  /// What the warden found and enforces for every cell.
  public nonisolated let facts: SandboxFacts

  public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

  /// The thread that serves the cells. A task that prefers it (`withTaskExecutorPreference`) starts cells and hears of their
  /// ends without being handed from thread to thread, which takes longer than what is done there.
  public nonisolated var executor: any TaskExecutor { thread.tasks }

  nonisolated let thread: EventThread
  private nonisolated let null: Descriptor
  private nonisolated let staging: Descriptor
  private let wardenPatience: Duration
  private let cgroupBase: String?
  var warden: WardenProcess
  var cells: [UInt64: Cell] = [:]
  private var nextCell: UInt64 = 1
  private var reports: [UInt64: Result<CellReport, SandboxError>] = [:]
  private var waiting: [UInt64: [CheckedContinuation<Result<CellReport, SandboxError>, Never>]] = [:]
  /// Why no cell may be started any more.
  private var closed: SandboxError?
  /// When a warden that was told to leave, or whose socket was closed, is killed.
  var killWardenAt: ContinuousClock.Instant?
  /// What the thread's timer is set to.
  var armed: ContinuousClock.Instant?
  private var reaped = false
  /// For the next job. Never sent anywhere.
  var pipes: JobPipes?
  /// When they are made: nobody should wait for that.
  var pipesAt: ContinuousClock.Instant?
  private var closing: [CheckedContinuation<Void, Never>] = []
  var buffer = [UInt8](repeating: 0, count: StreamCapture.chunkBytes)

  // MARK: - Life

  /// Spawns the warden and waits until it has looked at the host. Throws `SandboxError`: stage `spawn` when it
  /// cannot be started or does not answer, `host` with a fix when the host cannot confine.
  public static func start(_ configuration: SandboxConfiguration) async throws(SandboxError) -> Sandbox {
    let staging = try configuration.prepareDirectories()
    let thread = EventThread(name: "cordon-sandbox")
    let launcher = WardenLauncher(thread: thread)
    do {
      let null = try failing("spawn", "cannot open /dev/null") { try Descriptor.open("/dev/null") }
      let (warden, facts) = try await launcher.launch(configuration)
      let sandbox = Sandbox(
        thread: thread, staging: staging, null: null, warden: warden, facts: facts, configuration: configuration)
      await sandbox.serve()
      await sandbox.keepPipes(at: .now)
      return sandbox
    } catch {
      thread.stop()
      throw error
    }
  }

  private init(
    thread: EventThread, staging: Descriptor, null: Descriptor, warden: WardenProcess, facts: WardenFacts,
    configuration: SandboxConfiguration
  ) {
    wardenPatience = configuration.wardenPatience
    self.null = null
    cgroupBase = configuration.cgroupBase
    self.thread = thread
    self.staging = staging
    self.warden = warden
    self.facts = SandboxFacts(facts)
  }

  deinit { thread.stop() }

  /// Kills every cell, ends the warden and waits until it is gone. Cells that were still running report that they
  /// were abandoned, or fail with stage `warden`. Harmless when called again.
  public func shutdown() async {
    if closed == nil {
      closed = SandboxError(stage: "warden", message: "the sandbox was shut down")
      killWardenAt = .now + wardenPatience
      armTimer()
      tell(.shutdown)
    }
    await waitUntilClosed()
  }

  /// Returns when the warden is gone, by `shutdown` or by itself, and every report has been given.
  public func waitUntilClosed() async {
    if reaped { return }
    await withCheckedContinuation { closing.append($0) }
  }

  /// A private directory for the files of one attempt. Throws `SandboxError` (stage `stage`).
  public nonisolated func stage() throws(SandboxError) -> Stage {
    try Stage.make(beneath: staging)
  }

  /// Longest time between SIGTERM and the end of a cell that is stopped from outside.
  static let cancelGraceMilliseconds: Int64 = 1_000

  // MARK: - Cells

  /// Starts the job in a fresh cell and returns when its first instruction is about to run.
  ///
  /// Throws `SandboxError`: stage `request` when no cell may be asked for like this, `exec` when the program cannot
  /// be executed, `warden` when the warden is gone, `cell` (or the control that failed, in the message) otherwise.
  /// Whenever it throws, no job byte ran.
  public func run(_ request: CellRequest) async throws(SandboxError) -> RunningCell {
    if let closed { throw closed }
    let identifier = nextCell
    nextCell += 1
    let order = request.order(identifier)
    if let problem = order.problem { throw SandboxError(problem) }
    let encoded = WardenRequest.run(order).encoded
    guard order.arguments.count <= Bounds.arguments, order.environment.count <= Bounds.variables,
      encoded.count <= Bounds.message
    else { throw SandboxError(stage: "request", message: "arguments and environment are too large", errno: E2BIG) }
    let (output, chunks) = AsyncStream.makeStream(of: OutputChunk.self)
    do {
      try begin(order, encoded, request: request, chunks: chunks)
    } catch {
      chunks.finish()
      throw error
    }
    let start = await withCheckedContinuation { cells[identifier]?.starting = $0 }
    return RunningCell(sandbox: self, identifier: identifier, uid: try start.get().user, output: output)
  }

  /// Makes the job's descriptors and sends the order. Ours stay, the job's are closed when this returns.
  private func begin(
    _ order: CellOrder, _ encoded: [UInt8], request: CellRequest, chunks: AsyncStream<OutputChunk>.Continuation
  ) throws(SandboxError) {
    let standard = try JobDescriptors(stdin: request.stdin, null: null, pipes: pipes)
    pipes = nil
    tell(encoded, [standard.stdin, standard.stdout.write, standard.stderr.write])
    if let closed { throw closed }
    let cap = request.limits.streamBytes
    let longest = Duration.milliseconds(request.limits.wallMilliseconds + request.limits.graceMilliseconds)
    cells[order.cell] = Cell(
      stage: request.stage, limits: request.limits, outputs: request.outputs, network: request.network,
      overdue: .now + longest + wardenPatience,
      chunks: chunks,
      stdout: Stream(pipe: standard.stdout.read, capture: StreamCapture(cap: cap)),
      stderr: Stream(pipe: standard.stderr.read, capture: StreamCapture(cap: cap)))
    armTimer(for: order.cell)
  }

  func stop(_ identifier: UInt64, _ cause: StopCause, atOnce: Bool) {
    guard closed == nil, let cell = cells[identifier] else { return }
    // Who cancels waits for it: the request takes up to a second to arrive, so a second is left of the two promised.
    let grace = atOnce ? 0 : min(cell.limits.graceMilliseconds, Sandbox.cancelGraceMilliseconds)
    tell(.stop(CellStop(cell: identifier, cause: cause, graceMilliseconds: grace)))
  }

  func freeze(_ identifier: UInt64, _ isFrozen: Bool) {
    guard closed == nil, cells[identifier] != nil else { return }
    tell(.freeze(cell: identifier, isFrozen))
  }

  func report(of identifier: UInt64) async throws(SandboxError) -> CellReport {
    if let report = reports[identifier] { return try report.get() }
    guard cells[identifier] != nil else {
      throw SandboxError(stage: "cell", message: "the report was given up")
    }
    return try await withCheckedContinuation { waiting[identifier, default: []].append($0) }.get()
  }

  func progress(of identifier: UInt64) -> JSONValue? {
    cells[identifier]?.result.flatMap { ResultFile.progress(beneath: $0) }
  }

  /// Nobody can ask for the report any more. A cell that still runs does so to its end.
  func forget(_ identifier: UInt64) {
    cells[identifier]?.isForgotten = true
    reports[identifier] = nil
  }

  private func settle(_ identifier: UInt64, _ report: Result<CellReport, SandboxError>) {
    guard let cell = cells.removeValue(forKey: identifier) else { return }
    cell.chunks.finish()
    if let starting = cell.starting, case .failure(let error) = report {
      starting.resume(returning: .failure(error))
      return
    }
    if !cell.isForgotten { reports[identifier] = report }
    for continuation in waiting.removeValue(forKey: identifier) ?? [] { continuation.resume(returning: report) }
    if pipes == nil { keepPipes(at: .now + Self.quiet) }
  }

  // MARK: - Control socket

  private func serve() {
    guard let socket = warden.socket?.descriptor.raw else { return }
    let events = warden.hasUnsent ? POLLIN | POLLOUT : POLLIN
    thread.watch(socket, events: Int16(events)) { _ in self.serveSocket() }
  }

  private func tell(_ request: WardenRequest) { tell(request.encoded) }

  private func tell(_ request: [UInt8], _ descriptors: [Descriptor] = []) {
    do {
      try warden.send(request, descriptors)
      serve()
    } catch {
      // What cannot be told to stop must not go on: without its control socket the warden kills everything.
      lose("\(error)")
    }
  }

  private func serveSocket() {
    while true {
      switch warden.read() {
      case .reply(let reply, let descriptors):
        handle(reply, descriptors)
      case .over(let why):
        return lose(why)
      case .nothing:
        do {
          try warden.sendUnsent()
          return serve()
        } catch {
          return lose("\(error)")
        }
      }
    }
  }

  private func handle(_ reply: WardenReply, _ descriptors: [Descriptor]) {
    switch reply {
    case .listening(let cell):
      guard let network = cells[cell]?.network, descriptors.count == network.listeners.count else {
        return lose("it opened listeners that nobody asked for")
      }
      network.opened(descriptors)
    case .started(let start):
      begun(start)
      cells[start.cell]?.result = descriptors.first
      watchStreams(of: start.cell)
    case .refused(let cell, let refusal):
      drain(cell)
      settle(cell, .failure(SandboxError(refusal)))
    case .finished(let end):
      if let start = end.start, start.cell == end.cell { begun(start) }
      drain(end.cell)
      guard let cell = cells[end.cell] else { return }
      settle(end.cell, cell.report(end, descriptors, facts: facts))
    case .hello, .cannot:
      lose("it greeted twice")
    }
  }

  private func begun(_ start: CellStart) {
    let starting = cells[start.cell]?.starting
    cells[start.cell]?.starting = nil
    cells[start.cell]?.start = start
    starting?.resume(returning: .success(start))
  }

  /// The warden is dead or speaks nonsense; both ways nothing it enforces can be relied on.
  func lose(_ why: String) {
    guard let socket = warden.socket else { return }
    thread.unwatch(socket.descriptor.raw)
    warden.closeSocket()
    let error =
      closed
      ?? SandboxError(
        stage: "warden", message: "cordon-warden is gone: \(why)", fix: "see its log, then restart the worker")
    closed = error
    // A hanging warden does not read that its socket has ended; its cells die with it all the same.
    if cells.values.contains(where: { $0.overdue <= .now }) { warden.kill() }
    killWardenAt = killWardenAt ?? .now + wardenPatience
    for identifier in Array(cells.keys) {
      drain(identifier)
      settle(identifier, .failure(error))
    }
    armTimer()
    Task { await self.reapWarden() }
  }

  private func reapWarden() async {
    while !warden.reap() { try? await Task.sleep(for: Self.reapInterval) }
    // One that was killed left its groups, and there may be no next warden soon. Off this thread: it waits for the
    // kernel.
    await Task.detached { [cgroupBase] in CgroupArea.sweepAbandoned(base: cgroupBase) }.value
    reaped = true
    killWardenAt = nil
    armTimer()
    for continuation in closing { continuation.resume() }
    closing = []
  }

  private static let reapInterval = Duration.milliseconds(10)
}
