import Glibc
import Kernel

/// A job's stdout or stderr.
struct JobPipe {
  /// Ours.
  let read: Descriptor
  /// The job's.
  let write: Descriptor

  /// Only our end is non-blocking: the flag belongs to the end, and jobs expect a pipe that blocks.
  init() throws(SystemError) {
    (read, write) = try Descriptor.pipe()
    try read.setNonBlocking()
  }
}

/// The three descriptors of a job, and our ends of two of them.
struct JobDescriptors {
  let stdin: Descriptor
  let stdout: JobPipe
  let stderr: JobPipe

  init(stdin bytes: [UInt8]?, null: Descriptor, pipes: JobPipes?) throws(SandboxError) {
    (stdin, stdout, stderr) = try failing("cell", "cannot make the job's descriptors") {
      let pipes = try pipes ?? JobPipes()
      return (try bytes.map { try Descriptor.sealedMemory("stdin", $0) } ?? null, pipes.stdout, pipes.stderr)
    }
  }
}

/// Pipes of one job, made before it is there: nobody should wait for the kernel's making them.
struct JobPipes {
  let stdout: JobPipe
  let stderr: JobPipe

  init() throws(SystemError) { (stdout, stderr) = (try JobPipe(), try JobPipe()) }
}
