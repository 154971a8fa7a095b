import Glibc
import Kernel
import WardenProtocol

// Zygotes are started when the first cell of their imports is wanted. Until one is ready, and when its layout has been used
// by as many cells as may share it, a cell is given an interpreter of its own, which is never less than was asked for.

/// Every zygote of a warden.
struct Zygotes {
  /// At most one by its imports, and one that is to follow it.
  fileprivate var all: [Zygote] = []
  /// Why there is none, and until when that is not tried again.
  fileprivate var failures: [[String]: (refusal: Refusal, until: Instant)] = [:]
  /// The warden's own program, in memory; taken when the first is started.
  fileprivate var program: Descriptor?

  /// Each holds an interpreter and its modules in memory; a policy has one list of imports.
  fileprivate static let most = 4
  /// Something has to be installed, or a module mended, before it can become better.
  fileprivate static let failurePatienceMilliseconds: Int64 = 5_000
  /// Far above the size of this program with everything linked in.
  fileprivate static let longestProgram = 256 << 20

  subscript(serial: UInt64) -> Zygote? { all.first { $0.serial == serial } }
}

extension Supervisor {
  /// What a cell with this runtime is forked from; nil: from nothing.
  func zygote(for runtime: CellRuntime) throws(Refusal) -> Zygote? {
    guard case .forkedPython(let imports) = runtime else { return nil }
    let now = Instant.now
    if let failure = zygotes.failures[imports] {
      if now < failure.until { throw failure.refusal }
      zygotes.failures[imports] = nil
    }
    let own = zygotes.all.filter { $0.imports == imports }
    let present = own.first { $0.isReady && !$0.isSpent }
    if present == nil, !own.contains(where: { !$0.isReady }) { try beginZygote(imports) }
    present?.usedAt = now
    return present
  }

  private func beginZygote(_ imports: [String]) throws(Refusal) {
    if zygotes.all.count >= Zygotes.most, let oldest = zygotes.all.min(by: { $0.usedAt < $1.usedAt }) { end(oldest) }
    if zygotes.program == nil { zygotes.program = try ownProgram() }
    guard let program = zygotes.program else { return }
    let zygote = try Zygote.begin(serial: nextSerial(), imports: imports, program: program, host: host)
    zygotes.all.append(zygote)
    do throws(SystemError) {
      try readiness.add(zygote.socket.descriptor, .read, token: Token.of(zygote.serial, .socket))
    } catch {
      end(zygote)
      throw Refusal(Zygote.controlName, error)
    }
  }

  private func ownProgram() throws(Refusal) -> Descriptor {
    try requiring(Zygote.controlName) { () throws(SystemError) in
      try .sealedMemory(
        "cordon-warden", try Descriptor.open("self/exe", at: host.proc).readAll(limit: Zygotes.longestProgram),
        mode: CellProgram.mode)
    }
  }

  /// It has become ready, or has gone.
  func serve(_ zygote: Zygote) {
    let message = try? zygote.socket.receive(limit: Bounds.message)
    switch message.flatMap({ try? ZygoteReply(decoding: $0.bytes) }) {
    case .ready where !zygote.isReady:
      for former in zygotes.all where former.imports == zygote.imports && former !== zygote { end(former) }
      zygote.isReady = true
    case .cannot(let refusal): fail(zygote, refusal)
    default:
      // One that could be forked has imported what it should: the next will.
      if zygote.hasServed { return end(zygote) }
      fail(zygote, Refusal(control: Zygote.controlName, stage: "the zygote ended"))
    }
  }

  private func fail(_ zygote: Zygote, _ refusal: Refusal) {
    warn("\(refusal.control): \(refusal.stage): errno \(refusal.errno); \(refusal.fix)")
    let until = Instant.now.advanced(milliseconds: Zygotes.failurePatienceMilliseconds)
    zygotes.failures[zygote.imports] = (refusal, until)
    end(zygote)
  }

  private func end(_ zygote: Zygote) {
    zygotes.all.removeAll { $0 === zygote }
    readiness.remove(zygote.socket.descriptor)
    try? zygote.process.signal(SIGKILL)
    unreaped.append(zygote.process)
  }

  func endZygotes() {
    for zygote in zygotes.all { end(zygote) }
  }
}
