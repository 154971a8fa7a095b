import Glibc
import Testing

@testable import Kernel

/// Needs root and a kernel with loop devices.
@Suite(.serialized) struct LoopDeviceTests {
  private static func isBound(_ name: String) -> Bool { access("/sys/block/\(name)/loop/backing_file", F_OK) == 0 }

  @Test func aDeviceGoesWithItsLastDescriptor() async throws {
    let directory = try Descriptor.open("/var/tmp", O_RDONLY | O_DIRECTORY)
    let devices = try Descriptor.open("/dev", O_RDONLY | O_DIRECTORY)
    let control = try Descriptor.open("loop-control", O_RDWR, at: devices)
    var names: [String] = []
    do {
      let file = try directory.makeNamelessFile()
      try file.preallocate(1 << 20)
      // Each one takes another device, and makes it where none is left.
      let bound = try (0..<12).map { _ in try LoopDevice.bind(file, control: control, devices: devices) }
      names = try bound.map {
        let path = try #require(try? link("/proc/self/fd/\($0.descriptor.raw)"))
        return String(path.split(separator: "/").last ?? "")
      }
      #expect(Set(names).count == 12 && names.allSatisfy(Self.isBound))
      withExtendedLifetime(bound) {}
    }
    // Whoever looks at new devices, as udev does, has one open for a moment.
    for _ in 0..<500 where names.contains(where: Self.isBound) { try await Task.sleep(for: .milliseconds(10)) }
    #expect(!names.contains(where: Self.isBound))
  }

  @Test func aNamelessFileHasItsBlocksAndNoName() throws {
    let directory = try Descriptor.open("/var/tmp", O_RDONLY | O_DIRECTORY)
    #expect(try !directory.liesInMemory())
    let file = try directory.makeNamelessFile()
    try file.preallocate(3 << 20)
    var status = stat()
    #expect(fstat(file.raw, &status) == 0)
    #expect(status.st_nlink == 0 && status.st_size == 3 << 20 && status.st_blocks * 512 >= 3 << 20)
    #expect(linkat(AT_FDCWD, "/proc/self/fd/\(file.raw)", AT_FDCWD, "/var/tmp/cordon-named", AT_SYMLINK_FOLLOW) < 0)
    #expect(throws: SystemError.self) { try file.preallocate(1 << 60) }
    let memory = try Descriptor.open("/dev/shm", O_RDONLY | O_DIRECTORY)
    #expect(try memory.liesInMemory())
  }

  private func link(_ path: String) throws -> String {
    var buffer = [UInt8](repeating: 0, count: 256)
    let count = buffer.withUnsafeMutableBytes { readlink(path, $0.baseAddress!, $0.count) }
    return String(decoding: buffer[..<Int(try SystemError.check(count, "readlink"))], as: UTF8.self)
  }
}
