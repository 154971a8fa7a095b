import Glibc
import Kernel
import WardenProtocol

// What a cell says, how it ends, and the report.

extension Supervisor {
  func serve(_ cell: Cell, _ source: Token.Source) {
    switch source {
    case .socket: serveSocket(cell)
    case .memory: noteMemory(cell)
    case .main:
      readiness.remove(cell.main.descriptor)
      // What it said last comes before its end.
      if [.building, .waiting, .starting].contains(cell.phase) { serveSocket(cell, isOver: true) }
      if cell.phase != .draining { mainEnded(cell) } else { finishIfEmpty(cell, .now) }
    case .initProcess:
      readiness.remove(cell.initProcess.descriptor)
      if cell.phase == .removing { removeGroups(cell, .now) }
    }
  }

  private func serveSocket(_ cell: Cell, isOver: Bool = false) {
    do throws(SystemError) {
      while [.building, .waiting, .starting].contains(cell.phase) {
        guard let packet = try cell.socket.receive(limit: Bounds.message) else {
          return socketEnded(cell, isOver: isOver)
        }
        guard let message = CellMessage(decoding: packet.bytes) else { return left(cell) }
        switch (message, cell.phase) {
        case (.ready, .building): built(cell)
        case (.running(let since), .starting):
          // The process said it; a moment that has not come yet would put the time limit off.
          cell.announcedAt = max(Instant(microseconds: 0), min(since, .now))
        case (.failed, .starting):
          if let refusal = message.refusal(of: cell.order?.arguments.first ?? "") { return refuse(cell, refusal) }
        default: return left(cell)
        }
      }
    } catch {
      if error.errno != EAGAIN { left(cell) }
    }
  }

  private func built(_ cell: Cell) {
    cell.phase = .waiting
    if cell.order != nil { startOrRefuse(cell) }
  }

  /// The process has executed the job, or is gone. What follows at once says the start along.
  private func socketEnded(_ cell: Cell, isOver: Bool) {
    guard cell.phase == .starting, let since = cell.announcedAt, let order = cell.order, hasExecuted(cell) else {
      return left(cell)
    }
    cell.startCheckAt = nil
    cell.startedAt = since
    cell.phase = .running
    cell.deadline = since.advanced(milliseconds: order.limits.wallMilliseconds)
    cell.spaceCheckAt = Instant.now
    noteActivity()
    let start = CellStart(
      cell: order.cell, user: cell.user, initProcessID: cell.initProcess.processID, namespaces: cell.namespaces)
    if isOver { cell.start = start } else { send(.started(start), cell.result.map { [$0] } ?? []) }
    askToEnd(cell)
  }

  /// A process that dies in its execve, for want of memory, has no way to say so; but then it still has the name that it
  /// waited under. One that exits by itself has executed, or has said what kept it from that.
  private func hasExecuted(_ cell: Cell) -> Bool {
    guard cell.shape.runtime == .program else { return true }
    try? cell.noteEnd()
    if case .exited = cell.status { return true }
    guard let stat = try? host.proc.readText("\(cell.main.processID)/stat"), let name = ProcessIdentity.name(stat: stat)
    else { return false }
    return name != host.program.name
  }

  private func mainEnded(_ cell: Cell) {
    // What it would have said of an execve that failed was read by now.
    if cell.phase == .starting, cell.announcedAt != nil { socketEnded(cell, isOver: true) }
    if cell.phase == .running { drain(cell) } else { left(cell) }
  }

  func refuse(_ cell: Cell, _ refusal: Refusal) {
    cell.refusal = refusal
    drain(cell)
  }

  /// The process is gone without a word: killed, by the kernel for want of memory or by somebody with the right to.
  private func left(_ cell: Cell) {
    if cell.phase != .running {
      try? cell.noteEnd()
      if cell.refusal == nil {
        cell.refusal =
          cell.shape.runtime == .program
          ? Refusal(control: "cell", stage: "the cell's process ended while it was starting (\(cell.status))")
          : Refusal(
            control: "runtime", stage: "\(CellRuntime.pythonCommand[0]) did not come up",
            fix:
              "see that it runs and has the modules of the policy: \(cell.shape.runtime.imports.joined(separator: " "))"
          )
      }
    }
    drain(cell)
  }

  /// The kernel is about to end a process of the cell for want of memory.
  private func noteMemory(_ cell: Cell) {
    if let event = cell.group.outOfMemory { readiness.remove(event) }
    cell.memoryRanOut = true
    cell.checkDelayMilliseconds = 1
    cell.checkAt = Instant.now
  }

  /// Kills the group and goes on in `finishIfEmpty`.
  func drain(_ cell: Cell) {
    guard ![.draining, .spent, .removing].contains(cell.phase) else { return }
    let now = Instant.now
    if cell.order == nil { forgetUnused(cell) }
    cell.endedAt = now
    cell.phase = .draining
    cell.drainingSince = now
    cell.given = []
    cell.checkDelayMilliseconds = 1
    finishIfEmpty(cell, now)
  }

  func serveTimer(_ cell: Cell, _ now: Instant) {
    switch cell.phase {
    case .building, .starting:
      if cell.deadline <= now {
        refuse(cell, Refusal(control: "cell", stage: "the cell did not come up in time", errno: ETIMEDOUT))
      } else {
        if cell.startCheckAt.map({ $0 <= now }) ?? false {
          cell.startCheckAt = now.advanced(milliseconds: Supervisor.startCheckMilliseconds)
          serveSocket(cell)
        }
        if [.starting, .running].contains(cell.phase), cell.checkAt.map({ $0 <= now }) ?? false {
          checkMemory(cell, now)
        }
      }
    case .running: serveRunning(cell, now)
    case .draining: finishIfEmpty(cell, now)
    case .removing: removeGroups(cell, now)
    case .waiting, .spent: break
    }
  }

  private func serveRunning(_ cell: Cell, _ now: Instant) {
    if let killAt = cell.killAt, killAt <= now { return drain(cell) }
    if cell.deadline <= now, let order = cell.order {
      cell.deadline = Instant(microseconds: .max)
      if cell.stop == nil {
        cell.stop = (.wallClock, order.limits.graceMilliseconds)
        askToEnd(cell)
        if cell.phase != .running { return }
      }
    }
    if cell.checkAt.map({ $0 <= now }) ?? false { checkMemory(cell, now) }
    if cell.phase == .running, cell.spaceCheckAt.map({ $0 <= now }) ?? false { cell.noteSpace(now) }
  }

  private func checkMemory(_ cell: Cell, _ now: Instant) {
    guard cell.memoryRanOut else {
      cell.checkAt = nil
      return
    }
    if let counters = try? cell.group.counters(), counters.oomKills > 0 {
      // It may have started since the last look, and then the job is what ran out of memory.
      if cell.phase == .starting { serveSocket(cell) }
      return drain(cell)
    }
    cell.checkLater(from: now)
  }

  private func finishIfEmpty(_ cell: Cell, _ now: Instant) {
    do {
      try cell.noteEnd()
      // Once the one process is over that could let others in, an empty group stays empty.
      if cell.isMainOver {
        if try !cell.group.isPopulated() { return report(cell, emptied: true) }
        // Some kernels count one that nobody reaped.
        try cell.reapMain()
        if try !cell.group.isPopulated() { return report(cell, emptied: true) }
      }
      // Again at every look: a write that failed the first time must not leave a cell alive.
      try cell.group.kill()
    } catch {
      warn("cell \(cell.serial): \(error)")
    }
    if let since = cell.drainingSince, since.advanced(milliseconds: Supervisor.drainPatienceMilliseconds) < now {
      warn("cell \(cell.serial): processes are left that the kernel does not end")
      return report(cell, emptied: false)
    }
    cell.checkLater(from: now)
  }

  private func report(_ cell: Cell, emptied: Bool) {
    cell.isEmptied = emptied
    if let name = cell.name {
      ordered[name] = nil
      if let startedAt = cell.startedAt, let output = cell.output, let result = cell.result {
        let end = facts(cell, name, from: startedAt, output: output, emptied: emptied)
        send(.finished(end), end.emptied ? [output, result] : [])
      } else {
        send(.refused(cell: name, cell.whyNotStarted))
      }
    }
    (cell.output, cell.result) = (nil, nil)
    cell.phase = .spent
    noteActivity()
    chores.spent.append(cell)
  }

  private func facts(
    _ cell: Cell, _ name: UInt64, from startedAt: Instant, output: Descriptor, emptied: Bool
  ) -> CellEnd {
    var end = CellEnd(
      cell: name, start: cell.start, status: cell.status, stop: cell.stop?.cause, emptied: emptied)
    end.wallMicroseconds = UInt64(max(0, (cell.endedAt ?? startedAt).microseconds - startedAt.microseconds))
    do {
      let counters = try cell.group.counters()
      end.oomKills = counters.oomKills
      end.pidsLimitHits = counters.pidsLimitHits
      end.cpuMicroseconds = counters.cpuMicroseconds
      end.memoryPeakBytes = counters.memoryPeakBytes
      let isExhausted = cell.isExhausted(try FilesystemSpace.of(output))
      end.outputExhausted = isExhausted || cell.outputRanOut
    } catch {
      // Without the kernel's facts there is no outcome; the worker must not use this cell's outputs.
      warn("cell \(cell.serial): \(error)")
      end.status = .unknown
      end.emptied = false
    }
    return end
  }
}
