import Glibc
import Kernel

/// The three descriptors of a job, and our ends of two of them.
struct JobDescriptors {
  let stdin: Descriptor
  let stdout: (read: Descriptor, write: Descriptor)
  let stderr: (read: Descriptor, write: Descriptor)

  init(stdin bytes: [UInt8]?, null: Descriptor) throws(SandboxError) {
    (stdin, stdout, stderr) = try failing("cell", "cannot make the job's descriptors") {
      (try bytes.map { try Descriptor.sealedMemory("stdin", $0) } ?? null, try Self.pipe(), try Self.pipe())
    }
  }

  /// Only our end is non-blocking: the flag belongs to the end, and jobs expect a pipe that blocks.
  private static func pipe() throws(SystemError) -> (read: Descriptor, write: Descriptor) {
    let pipe = try Descriptor.pipe()
    try pipe.read.setNonBlocking()
    return pipe
  }
}
