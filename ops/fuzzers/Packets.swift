import CLinux
import Glibc
import Kernel

/// Packets as a hostile peer sends them: any bytes, and any descriptors where the message itself may be one. The
/// warden has one thread and keeps the clock of every cell, so besides being refused nothing may make it wait.
enum Packets: Fuzzer {
  private static let limit = 256 << 10

  static var seeds: [[UInt8]] {
    // How the packet is sent, how many descriptors, which ones, then the bytes.
    [[0, 0, 0, 1, 2, 3], [1, 0, 5, 6, 7, 8]] + (0..<8).map { [0, 1, $0, 1, 9, 9] }
  }

  static func run(_ bytes: [UInt8]) {
    var choices = Choices(bytes)
    guard let (peer, mine) = try? PacketSocket.pair(), (try? mine.descriptor.setNonBlocking()) != nil else {
      fatalError("no socket pair: \(String(cString: strerror(errno)))")
    }
    let isProper = choices.byte() % 2 == 1
    let attached = (0..<Int(choices.byte() % 9)).compactMap { _ in descriptor(choices.byte(), choices) }
    let content = choices.remainder()
    if isProper, attached.count <= PacketSocket.descriptorLimit {
      // Long enough to go through a memory file.
      let long = Array(repeatElement(content, count: content.count > 8 ? 20_000 : 1).joined().prefix(limit))
      guard (try? peer.send(long, descriptors: attached)) != nil else { fatalError("a message can be sent") }
      let message = try? mine.receive(limit: limit)
      expect(
        message.map { $0.bytes == long && $0.descriptors.count == attached.count } ?? false, "a message arrives")
      return
    }
    let raw = attached.map(\.raw)
    let sent = withExtendedLifetime(attached) {
      cordon_send_packet(peer.descriptor.raw, content, content.count, raw, raw.count)
    }
    guard sent >= 0 else { return }
    if let message = try? mine.receive(limit: limit) {
      expect(message.bytes.count <= limit, "a message has its bound")
      expect(message.descriptors.count <= Int(CORDON_PACKET_DESCRIPTORS), "descriptors have their bound")
    }
  }

  /// Nil where this host does not make such a thing.
  private static func descriptor(_ kind: UInt8, _ choices: Choices) -> Descriptor? {
    switch kind % 8 {
    case 0: return try? Descriptor.open("/dev/null")
    case 1: return memory(choices, seal: true)
    case 2: return memory(choices, seal: false)
    case 3: return try? Descriptor.open("/", O_RDONLY | O_DIRECTORY)
    case 4: return try? Descriptor.open("/dev/zero")
    // Reading it waits for a change that never comes, and it can be rewound.
    case 5: return owned(inotify_init1(Int32(IN_CLOEXEC)))
    case 6: return try? PacketSocket.pair().0.descriptor
    default:
      var pair: [Int32] = [-1, -1]
      guard cordon_pipe(&pair) == 0 else { return nil }
      close(pair[1])
      return owned(pair[0])
    }
  }

  private static func owned(_ raw: Int32) -> Descriptor? { raw < 0 ? nil : Descriptor(owning: raw) }

  private static func memory(_ choices: Choices, seal: Bool) -> Descriptor? {
    var choices = choices
    guard let memory = owned(cordon_memfd("packet")), (try? memory.writeAll(choices.remainder())) != nil else {
      return nil
    }
    if seal { cordon_memfd_seal(memory.raw) }
    return memory
  }
}
