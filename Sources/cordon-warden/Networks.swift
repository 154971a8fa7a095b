import Glibc
import Kernel

// Theory of operation
//
// To make an empty network namespace takes the kernel longer than everything else of a cell's namespaces together, and to
// take one down as long again, on a processor that the next cell wants. But nothing of a cell can change one:
// no process of it ever had a capability over it, and of all families the filter leaves it local sockets alone. So a
// namespace without a socket is as empty as a new one, and is given to a later cell.
//
// Whether it has none the kernel says, in the count over all families that it keeps for the namespace (`net/sockstat`), once
// no process but the cell's init is left in it. A socket without a process can only be one that lies in another's queue: it is
// counted until the kernel has collected it. A namespace that is not seen empty is let go of with its cell.

/// Empty network namespaces of cells that are over.
final class Networks {
  private var empty: [Descriptor] = []

  /// Enough for what a burst leaves; each is some memory of the kernel's.
  private static let most = 64

  /// For a new cell; nil: it begins one.
  func take() -> Descriptor? { empty.popLast() }

  /// Keeps that of a cell whose only process is its init, if it is empty. For what may fail here there is a new one.
  func keep(ofInit processID: pid_t, proc: Descriptor) {
    guard empty.count < Networks.most, let sockets = try? proc.readText("\(processID)/net/sockstat"),
      Networks.isEmpty(sockets: sockets),
      let namespace = try? Descriptor.open("\(processID)/ns/net", O_RDONLY, at: proc)
    else { return }
    empty.append(namespace)
  }

  /// From the text of a /proc/PID/net/sockstat, whose first line counts the sockets of all families.
  static func isEmpty(sockets: String) -> Bool { sockets.hasPrefix("sockets: used 0\n") }
}
