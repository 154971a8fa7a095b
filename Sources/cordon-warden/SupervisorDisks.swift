import CellPool
import Glibc
import Kernel
import WardenProtocol

// Orders for a cell whose /output lies on a disk. To make that takes time and may wait for the disk, so a process of its
// own does it, and the cell is built when it has; a cell that waited with one would hold its part of the disk for nobody.

/// An order whose /output is being made. There is no cell yet.
struct DiskOrder {
  let order: CellOrder
  let given: [JobStream]
  let user: UInt32
  let maker: ProcessHandle
  let socket: PacketSocket
}

extension Supervisor {
  func beginDisk(_ order: CellOrder, given: [JobStream]) throws(Refusal) {
    let user = try takeUser()
    do throws(Refusal) {
      let (maker, socket) = try OutputDisk.begin(shape: order.shape, user: user, host: host)
      let serial = nextSerial()
      disks[serial] = DiskOrder(order: order, given: given, user: user, maker: maker, socket: socket)
      try requiring(OutputDisk.controlName) { () throws(SystemError) in
        try readiness.add(socket.descriptor, .read, token: Token.of(serial, .socket))
      }
      deadlines.set(serial, Instant.now.advanced(milliseconds: Supervisor.startPatienceMilliseconds))
    } catch {
      host.users.release(user)
      throw error
    }
  }

  /// The maker has said something, or ended.
  func serveDisk(_ serial: UInt64) {
    guard let waiting = disks[serial] else { return }
    let message: PacketSocket.Message?
    do throws(SystemError) { message = try waiting.socket.receive(limit: Bounds.message) } catch {
      return error.errno == EAGAIN ? () : giveUpDisk(serial, Refusal(OutputDisk.controlName, error))
    }
    do throws(Refusal) {
      let mount = try OutputDisk.mount(message)
      forget(serial, waiting)
      let cell = try build(waiting.order.shape, serial: serial, user: waiting.user, disk: mount)
      accept(waiting.order, given: waiting.given, cell)
    } catch {
      if disks[serial] != nil { return giveUpDisk(serial, error) }
      send(.refused(cell: waiting.order.cell, error))
    }
  }

  func diskIsLate(_ serial: UInt64) {
    giveUpDisk(
      serial, Refusal(control: OutputDisk.controlName, stage: "it was not made in time", errno: ETIMEDOUT))
  }

  /// The order goes back; what there is of its disk goes with the maker.
  func giveUpDisk(_ serial: UInt64, _ refusal: Refusal) {
    guard let waiting = disks[serial] else { return }
    forget(serial, waiting)
    host.users.release(waiting.user)
    send(.refused(cell: waiting.order.cell, refusal))
  }

  /// A stop for an order that has no cell yet; false when there is none.
  func stopDisk(_ name: UInt64) -> Bool {
    guard let (serial, _) = disks.first(where: { $0.value.order.cell == name }) else { return false }
    giveUpDisk(serial, Refusal(control: "cell", stage: "stopped while it was starting"))
    return true
  }

  func isMakingDisk(_ name: UInt64) -> Bool { disks.values.contains { $0.order.cell == name } }

  private func forget(_ serial: UInt64, _ waiting: DiskOrder) {
    disks[serial] = nil
    deadlines.set(serial, nil)
    readiness.remove(waiting.socket.descriptor)
    // It has nothing left to do; one whose disk hangs goes when that lets it.
    try? waiting.maker.signal(SIGKILL)
    unreaped.append(waiting.maker)
  }

  func reapEnded() {
    if !unreaped.isEmpty { unreaped.removeAll { (try? $0.reap()) != .some(nil) } }
  }
}
