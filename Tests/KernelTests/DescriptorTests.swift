import Glibc
import Testing

@testable import Kernel

/// A directory that goes with the test.
final class Scratch {
  let path: String
  let directory: Descriptor

  init() throws {
    var template = Array("/tmp/cordon-kernel-tests-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp", errno: errno) }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    directory = try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
  }

  func write(_ name: String, _ text: String) throws {
    try Descriptor.open(name, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600, at: directory).writeAll(Array(text.utf8))
  }

  deinit {
    let names = (try? directory.entries()) ?? []
    for name in names where unlinkat(directory.raw, name, 0) != 0 { unlinkat(directory.raw, name, AT_REMOVEDIR) }
    rmdir(path)
  }
}

private func errno(_ body: () throws -> Void) -> Int32? {
  do {
    try body()
    return nil
  } catch {
    return (error as? SystemError)?.errno
  }
}

@Suite struct BeneathTests {
  @Test func aPlainFileOpens() throws {
    let scratch = try Scratch()
    try scratch.write("plain", "text")
    #expect(try scratch.directory.open(beneath: "plain", O_RDONLY).readAll(limit: 4) == Array("text".utf8))
    #expect(errno { _ = try scratch.directory.open(beneath: "plain", O_RDONLY).readAll(limit: 3) } == EFBIG)
  }

  @Test(arguments: [("..", EXDEV), ("../etc/passwd", EXDEV), ("/etc/passwd", EXDEV), ("absent", ENOENT), ("", ENOENT)])
  func pathsThatLeaveAreRefused(_ path: String, _ expected: Int32) throws {
    let scratch = try Scratch()
    #expect(errno { _ = try scratch.directory.open(beneath: path, O_RDONLY) } == expected)
  }

  @Test func linksAreRefused() throws {
    let scratch = try Scratch()
    try scratch.write("plain", "")
    for (name, target) in [("outside", "/etc/passwd"), ("inside", "plain"), ("up", ".."), ("magic", "/proc/self/root")]
    {
      try SystemError.check(symlinkat(target, scratch.directory.raw, name), "symlink")
      #expect(errno { _ = try scratch.directory.open(beneath: name, O_RDONLY) } == ELOOP, "\(name)")
      #expect(errno { _ = try scratch.directory.open(beneath: "\(name)/x", O_RDONLY) } == ELOOP, "\(name)/x")
      // The guard, not the file, is what refused: without it the same name opens.
      _ = try Descriptor.open(name, O_RDONLY, at: scratch.directory)
    }
  }

  @Test func otherMountsAreRefused() throws {
    let root = try Descriptor.open("/", O_RDONLY | O_DIRECTORY)
    #expect(errno { _ = try root.open(beneath: "proc/version", O_RDONLY) } == EXDEV)
    _ = try root.open(beneath: "proc/version", O_RDONLY, resolution: [.beneath, .noSymbolicLinks, .noMagicLinks])
  }

  @Test func aNULIsRefused() throws {
    let scratch = try Scratch()
    try scratch.write("plain", "")
    #expect(errno { _ = try scratch.directory.open(beneath: "plain\0x", O_RDONLY) } == EINVAL)
  }
}

@Suite struct PacketSocketTests {
  private let limit = 1 << 20

  @Test(arguments: [0, 1, PacketSocket.inlineLimit, PacketSocket.inlineLimit + 1, 1 << 20])
  func messagesArriveWhole(_ size: Int) throws {
    let (here, there) = try PacketSocket.pair()
    let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let scratch = try Scratch()
    try scratch.write("a", "first")
    try scratch.write("b", "second")
    let files = try ["a", "b"].map { (name: String) throws -> Descriptor in
      try Descriptor.open(name, O_RDONLY, at: scratch.directory)
    }
    try here.send(bytes, descriptors: files)
    let message = try #require(try there.receive(limit: limit))
    #expect(message.bytes == bytes)
    #expect(try message.descriptors.map { try $0.readAll(limit: 10) } == [Array("first".utf8), Array("second".utf8)])
    for descriptor in message.descriptors { #expect(fcntl(descriptor.raw, F_GETFD) == FD_CLOEXEC) }
  }

  @Test func theEndIsNil() throws {
    let (here, there) = try PacketSocket.pair()
    try here.send([7])
    try SystemError.check(shutdown(here.descriptor.raw, Int32(SHUT_WR)), "shutdown")
    #expect(try there.receive(limit: limit)?.bytes == [7])
    #expect(try there.receive(limit: limit) == nil)
  }

  @Test func oversizeIsRefused() throws {
    let (here, there) = try PacketSocket.pair()
    try here.send([UInt8](repeating: 1, count: 11))
    #expect(errno { _ = try there.receive(limit: 10) } == EMSGSIZE)
    try here.send([UInt8](repeating: 1, count: PacketSocket.inlineLimit + 1))
    #expect(errno { _ = try there.receive(limit: PacketSocket.inlineLimit) } == EFBIG)
  }

  @Test func packetsOfAnotherKindAreRefused() throws {
    let (here, there) = try PacketSocket.pair()
    for packet: [UInt8] in [[9], [1], [1, 2]] {
      try SystemError.check(write(here.descriptor.raw, packet, packet.count), "write")
      #expect(errno { _ = try there.receive(limit: limit) } == EBADMSG, "\(packet)")
    }
    let flood = [UInt8](repeating: 0, count: PacketSocket.inlineLimit + 2)
    try SystemError.check(write(here.descriptor.raw, flood, flood.count), "write")
    #expect(errno { _ = try there.receive(limit: limit) } == EMSGSIZE)
  }

  @Test func tooManyDescriptorsAreRefused() throws {
    let (here, _) = try PacketSocket.pair()
    let many = Array(repeating: here.descriptor, count: PacketSocket.descriptorLimit + 1)
    #expect(errno { try here.send([], descriptors: many) } == EINVAL)
  }
}

@Suite struct UserBlockTests {
  @Test func blocksAreExclusiveAndComeBack() throws {
    let scratch = try Scratch()
    func claim() throws(Unavailable) -> UserBlock {
      try UserBlock.claim(directory: scratch.path, first: 100_000, size: 10, blocks: 2)
    }
    var first: UserBlock? = try claim()
    let second = try claim()
    #expect(first?.first == 100_000 && second.first == 100_010 && second.count == 10)
    #expect(throws: Unavailable.self) { try claim() }
    first = nil
    #expect(try claim().first == 100_000)
  }

  @Test func aDirectoryOthersMayWriteIsRefused() throws {
    let scratch = try Scratch()
    try SystemError.check(chmod(scratch.path, 0o777), "chmod")
    #expect(throws: Unavailable.self) {
      try UserBlock.claim(directory: scratch.path, first: 100_000, size: 10, blocks: 2)
    }
  }
}
