import CLinux
import Glibc
import Kernel

// A process of a cell begins with the warden's descriptors, those of sibling cells among them. It takes a table of its own
// with the low numbers alone, which are those the warden opened when it started: copying all of them would make a start
// dearer with every cell that lives.

/// Numbers of descriptors in the processes of a cell.
enum CellDescriptors {
  /// The socket to the warden. In the warden itself it is the control socket.
  static let socket: Int32 = 3
  /// What the process executes.
  static let program: Int32 = 4

  /// Takes a table of its own: /dev/null as 0, 1 and 2, the socket where there is one, the program, and for the time
  /// before the execve the numbers below `reserved`. Objects that hold a descriptor from before must not go away in this
  /// process afterwards.
  static func takeOwn(socket: Descriptor?, null: Descriptor, below reserved: Int32) throws(SystemError) {
    try SystemError.check(cordon_own_descriptors(UInt32(reserved)), "close_range")
    for standard: Int32 in 0...2 { try null.copy(to: standard, keptOnExecute: true) }
    if let socket {
      try socket.copy(to: CellDescriptors.socket, keptOnExecute: true)
    } else {
      close(CellDescriptors.socket)
    }
  }

  /// As above for a zygote, whose program is another. It is made seldom enough to copy the whole table.
  static func takeOwn(socket: Descriptor, program: Descriptor, null: Descriptor) throws(SystemError) {
    try SystemError.check(cordon_own_descriptors(UInt32.max), "close_range")
    for standard: Int32 in 0...1 { try null.copy(to: standard, keptOnExecute: true) }
    try socket.copy(to: CellDescriptors.socket, keptOnExecute: true)
    try program.copy(to: CellDescriptors.program, keptOnExecute: false)
    try closeOthers(beyond: CellDescriptors.program)
  }

  /// Closes all beyond `last`: the program, which the execve closes, or the socket where nothing is executed.
  static func closeOthers(beyond last: Int32) throws(SystemError) {
    try SystemError.check(cordon_close_range(UInt32(last) + 1, UInt32.max), "close_range")
  }
}
