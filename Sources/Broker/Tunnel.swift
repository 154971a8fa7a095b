import Destinations
import NIOCore
import Synchronization

// Bytes both ways, unread: two directions, each of which reads from one wire, counts, and writes to the other, on the event loop that
// both wires share. A task is only woken when a direction is over. The end of one direction is passed on as an end (half-close), and
// the other goes on; a break of one ends both.

extension Connection {
  /// - Parameter first: what was read of the client before it was allowed.
  func tunnel(to grant: Grant, first: ByteBuffer?) async throws {
    var subject = LedgerLine.Subject(grant: grant.name, endpoint: grant.endpoint.description)
    let dialling: Dialling
    do {
      dialling = try await broker.dialling(grant, for: session, on: loop)
      subject.address = dialling.candidates.map(\.description).joined(separator: ",")
      try allow(
        .init(connects: true), of: grant, rule: "grant \"\(grant.name)\": mode \(grant.mode.rawValue)", subject)
    } catch let denial as Denial {
      session.deny(denial, subject)
      return
    }
    let meter = Meter()
    do {
      let (outside, address) = try await dial(dialling, of: grant)
      subject.address = address.description
      if let first { try await pass(first, to: outside, of: grant, isSent: true, meter) }
      await withTaskGroup { group in
        group.addTask { await self.pump(from: self.inside, to: outside, of: grant, isSent: true, meter) }
        group.addTask { await self.pump(from: outside, to: self.inside, of: grant, isSent: false, meter) }
      }
    } catch let failure as UpstreamFailure {
      abort("upstream: \(grant.endpoint) \(failure.reason)")
    } catch {
      abort("broken: \(Broker.words(error))")
    }
    (subject.sent, subject.received) = meter.counts
    session.end(reason ?? "both sides ended", subject)
  }

  private func pump(from source: Wire, to target: Wire, of grant: Grant, isSent: Bool, _ meter: Meter) async {
    do {
      try await source.pour(into: target) { count in
        self.touch()
        try self.session.spend(sent: isSent ? count : 0, received: isSent ? 0 : count, of: grant)
      } passed: { count, isTaken in
        self.session.release(count)
        guard isTaken else { return }
        self.touch()
        meter.add(sent: isSent ? count : 0, received: isSent ? 0 : count)
      }
      touch()
      try await target.finish()
    } catch let denial as Denial {
      // One line for the limit; the end has its own, and is all there is where everything has ended.
      if session.ended == nil { session.deny(denial, .init(grant: grant.name, endpoint: grant.endpoint.description)) }
      abort(denial.rule)
    } catch {
      abort("broken: \(Broker.words(error))")
    }
  }

  /// Counts bytes, and passes them on.
  func pass(_ bytes: ByteBuffer, to wire: Wire, of grant: Grant, isSent: Bool, _ meter: Meter) async throws {
    let count = bytes.readableBytes
    try session.spend(sent: isSent ? count : 0, received: isSent ? 0 : count, of: grant)
    defer { session.release(count) }
    try await write(bytes, to: wire)
    meter.add(sent: isSent ? count : 0, received: isSent ? 0 : count)
  }
}

/// What has gone each way.
final class Meter: Sendable {
  private let state = Mutex((sent: Int64(0), received: Int64(0)))

  var counts: (sent: Int64, received: Int64) { state.withLock { $0 } }

  func add(sent: Int, received: Int) {
    state.withLock {
      $0.sent += Int64(sent)
      $0.received += Int64(received)
    }
  }
}
