import Destinations
import Glibc
import NIOCore
import Synchronization

/// This host's own addresses, behind which its own services listen.
///
/// They are asked of the kernel by a dozen system calls, so an answer is used for a second: an address that a host has only just got is no
/// place that a name could have been bound to before.
final class OwnAddresses: Sendable {
  static let life = TimeAmount.seconds(1)

  private let known = Mutex<(addresses: Set<IPAddress>, until: NIODeadline)?>(nil)

  /// - Throws: `Denial` where the kernel does not tell.
  func addresses(at now: NIODeadline = .now()) throws(Denial) -> Set<IPAddress> {
    if let known = known.withLock({ $0 }), now < known.until { return known.addresses }
    let addresses = try Self.ask()
    known.withLock { $0 = (addresses, now + Self.life) }
    return addresses
  }

  /// Of the kernel's answer only the addresses are read: what else NIO tells of devices is a socket and a call for each.
  private static func ask() throws(Denial) -> Set<IPAddress> {
    var devices: UnsafeMutablePointer<ifaddrs>?
    guard getifaddrs(&devices) == 0 else {
      throw Denial(rule: "this host's own addresses cannot be told: \(String(cString: strerror(errno)))", status: 502)
    }
    defer { freeifaddrs(devices) }
    var addresses: Set<IPAddress> = []
    var next = devices
    while let device = next?.pointee {
      next = device.ifa_next
      if let address = device.ifa_addr.flatMap(IPAddress.init(of:)) { addresses.insert(address) }
    }
    return addresses
  }
}
