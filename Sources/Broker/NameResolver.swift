import Destinations
import Glibc
import NIOCore
import NIOPosix

/// Where the addresses of a name come from.
public protocol NameResolver: Sendable {
  /// All of them; an error or none where there are none. The broker bounds how long it waits.
  func addresses(of name: String) async throws -> [IPAddress]
}

/// The host's own resolver, with whatever /etc/nsswitch.conf says. It blocks, so it has threads of its own: a name server that does not
/// answer holds up who asks for names, and nobody else.
public final class SystemResolver: NameResolver {
  private let threads: NIOThreadPool

  /// - Parameter threads: as many names are asked for at once.
  public init(threads: Int = 4) {
    self.threads = NIOThreadPool(numberOfThreads: threads)
    self.threads.start()
  }

  deinit {
    threads.shutdownGracefully { _ in }
  }

  public struct Unresolved: Error, CustomStringConvertible {
    public let description: String
  }

  public func addresses(of name: String) async throws -> [IPAddress] {
    try await threads.runIfActive { try Self.look(name) }
  }

  private static func look(_ name: String) throws -> [IPAddress] {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var found: UnsafeMutablePointer<addrinfo>?
    // As it is: with a dot at the end, /etc/hosts would not have it.
    let status = getaddrinfo(name, nil, &hints, &found)
    guard status == 0 else { throw Unresolved(description: String(cString: gai_strerror(status))) }
    defer { freeaddrinfo(found) }
    var addresses: [IPAddress] = []
    var next = found
    while let entry = next?.pointee {
      next = entry.ai_next
      if let address = entry.ai_addr.flatMap(IPAddress.init(of:)) { addresses.append(address) }
    }
    return addresses
  }
}

extension IPAddress {
  /// Nil for what is of no internet family.
  init?(of address: UnsafeMutablePointer<sockaddr>) {
    let raw = UnsafeRawPointer(address)
    let known: SocketAddress? =
      switch Int32(address.pointee.sa_family) {
      case AF_INET: SocketAddress(raw.loadUnaligned(as: sockaddr_in.self))
      case AF_INET6: SocketAddress(raw.loadUnaligned(as: sockaddr_in6.self))
      default: nil
      }
    // A zone belongs to an address that is never dialled.
    guard let text = known?.ipAddress, let read = IPAddress(text.prefix { $0 != "%" }) else { return nil }
    self = read
  }
}
