import Glibc
import Kernel

/// The three descriptors of a job, and our ends of two of them.
struct JobDescriptors {
  let stdin: Descriptor
  let stdout: (read: Descriptor, write: Descriptor)
  let stderr: (read: Descriptor, write: Descriptor)

  init(stdin bytes: [UInt8]?) throws(SandboxError) {
    (stdin, stdout, stderr) = try failing("cell", "cannot make the job's descriptors") {
      (
        try bytes.map { try Descriptor.sealedMemory("stdin", $0) } ?? Descriptor.open("/dev/null", O_RDONLY),
        try Self.pipe(), try Self.pipe()
      )
    }
  }

  /// Only our end is non-blocking: the flag belongs to the end, and jobs expect a pipe that blocks.
  private static func pipe() throws(SystemError) -> (read: Descriptor, write: Descriptor) {
    var ends: [Int32] = [0, 0]
    try SystemError.check(Glibc.pipe(&ends), "pipe")
    let pipe = (read: Descriptor(owning: ends[0]), write: Descriptor(owning: ends[1]))
    // A program another thread starts in between would inherit the ends; it could delay nothing, because a report
    // does not wait for end of file.
    for end in ends { try SystemError.check(fcntl(end, F_SETFD, FD_CLOEXEC), "set close-on-exec") }
    try pipe.read.setNonBlocking()
    return pipe
  }
}
