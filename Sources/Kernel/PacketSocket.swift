import CLinux
import Glibc

// Theory of operation
//
// One packet of a SOCK_SEQPACKET socket is one message and the descriptors that belong to it, or neither. A packet
// must fit the socket's send buffer (about 200 KiB by default, and an unprivileged process cannot raise it), while a
// job's argv and environment may be megabytes. So every packet begins with one byte: 0, the message follows; 1, the
// message is the content of a sealed memfd that travels as the first descriptor. The receiver bounds both.

/// One end of a SOCK_SEQPACKET connection that carries messages with descriptors.
public final class PacketSocket: Sendable {
  /// Messages above this go through a memfd.
  public static let inlineLimit = 64 << 10
  /// Descriptors a message may carry; one more is kept for the memfd.
  public static let descriptorLimit = Int(CORDON_PACKET_DESCRIPTORS) - 1

  public struct Message: Sendable {
    public var bytes: [UInt8]
    public var descriptors: [Descriptor]
  }

  public let descriptor: Descriptor

  public init(_ descriptor: Descriptor) { self.descriptor = descriptor }

  /// Two connected ends.
  public static func pair() throws(SystemError) -> (PacketSocket, PacketSocket) {
    var raw: [Int32] = [-1, -1]
    try SystemError.check(cordon_packet_pair(&raw), "socketpair")
    return (PacketSocket(Descriptor(owning: raw[0])), PacketSocket(Descriptor(owning: raw[1])))
  }

  /// Sends one message. The descriptors stay the caller's; the kernel duplicates them.
  ///
  /// - Throws: EAGAIN when the socket is non-blocking and its buffer is full; EPIPE when the peer is gone.
  public func send(_ bytes: [UInt8], descriptors: [Descriptor] = []) throws(SystemError) {
    guard descriptors.count <= PacketSocket.descriptorLimit else {
      throw SystemError("send \(descriptors.count) descriptors", errno: EINVAL)
    }
    var attached = descriptors
    var packet: [UInt8] = [0]
    if bytes.count <= PacketSocket.inlineLimit {
      packet += bytes
    } else {
      attached.insert(try .sealedMemory("cordon-message", bytes), at: 0)
      packet = [1]
    }
    let raw = attached.map(\.raw)
    let sent = withExtendedLifetime(attached) {
      cordon_send_packet(descriptor.raw, packet, packet.count, raw, raw.count)
    }
    try SystemError.check(sent, "send packet")
  }

  /// One packet: its length, the byte in front, the others, and its descriptors. The room for the largest is not cleared
  /// first, which would take longer than to receive what packets usually are.
  private func receive() -> (length: Int, kind: UInt8, bytes: [UInt8], descriptors: ArraySlice<Int32>) {
    withUnsafeTemporaryAllocation(byteCount: PacketSocket.inlineLimit + 1, alignment: 1) { packet in
      var raw = [Int32](repeating: -1, count: Int(CORDON_PACKET_DESCRIPTORS))
      var count = 0
      let length = cordon_receive_packet(descriptor.raw, packet.baseAddress, packet.count, &raw, &count)
      guard length > 0 else { return (length, 0, [], raw.prefix(count)) }
      return (length, packet[0], Array(packet[1..<length]), raw.prefix(count))
    }
  }

  /// Receives one message; nil at end of file.
  ///
  /// - Parameter limit: the most bytes a message may have.
  /// - Throws: EAGAIN when the socket is non-blocking and nothing waits; EMSGSIZE or EBADMSG for a packet that is
  ///   no message; ECONNRESET when the peer vanished with packets unread.
  public func receive(limit: Int) throws(SystemError) -> Message? {
    let (length, kind, bytes, raw) = receive()
    try SystemError.check(length, "receive packet")
    var descriptors = raw.map { Descriptor(owning: $0) }
    if length == 0 { return nil }
    switch kind {
    case 0:
      guard length - 1 <= limit else { throw SystemError("receive packet", errno: EMSGSIZE) }
      return Message(bytes: bytes, descriptors: descriptors)
    case 1 where length == 1 && !descriptors.isEmpty:
      let memory = descriptors.removeFirst()
      // Anything else than sealed memory may change while it is read, or make the reader wait for ever.
      try SystemError.check(cordon_memfd_sealed(memory.raw), "receive a message that is no sealed memory")
      try SystemError.check(lseek(memory.raw, 0, SEEK_SET), "rewind message")
      return Message(bytes: try memory.readAll(limit: limit), descriptors: descriptors)
    default:
      throw SystemError("receive packet", errno: EBADMSG)
    }
  }
}
