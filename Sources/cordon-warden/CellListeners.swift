import CLinux
import Glibc
import Kernel
import WardenProtocol

// Theory of operation
//
// A cell's only way out are sockets that listen on its own loopback interface and are held by the broker, in the worker. A
// socket belongs for ever to the network namespace it was made in, so the warden goes there, makes them, and comes back;
// the worker gets them before the job's first instruction, and nobody else has them.
//
// What their connections have received and nobody has accepted yet is charged to nobody. Two numbers bound it: how many wait
// at a listener, and what each may have received. The job's own ends are charged to its group, and it has no listener of
// its own (`SystemCallPolicy.localOnly`).

/// Into a cell's network namespace, for the listeners that an order brings. Nothing of a job's has run there yet.
struct CellListeners {
  /// A pidfd of the cell's init.
  var cell: Descriptor
  /// The warden's own network namespace.
  var own: Descriptor

  /// The broker accepts at once whatever comes, so more would only wait while the worker is stopped.
  private static let backlog: Int32 = 16
  /// The kernel takes twice that, as it counts its own bookkeeping.
  private static let receiveBytes: Int32 = 128 << 10

  func open(_ network: CellNetwork) throws(Refusal) -> [Descriptor] {
    try requiring("network", fix: "the warden needs CAP_NET_ADMIN and CAP_NET_BIND_SERVICE") { () throws(SystemError) in
      try Namespaces.network.enter(cell)
      defer { comeBack() }
      try SystemError.check(cordon_loopback_up(), "bring up lo")
      var listeners: [Descriptor] = []
      for listener in network.listeners {
        let socket = cordon_listen(
          listener.address, listener.port, CellListeners.backlog, CellListeners.receiveBytes)
        listeners.append(Descriptor(owning: try SystemError.check(socket, "listen on port \(listener.port)")))
      }
      return listeners
    }
  }

  /// A warden that stayed would make the next cell's listeners in this one.
  private func comeBack() {
    do { try Namespaces.network.enter(own) } catch {
      warn("\(error)")
      exit(1)
    }
  }
}
