import CLinux
import Glibc

// Theory of operation
//
// A process of a cell begins in the memory of its maker, which waits: nothing is copied, so it costs the same whatever
// the maker holds. What it does there is the maker's own code and allocates in the maker's memory; therefore it returns,
// and the program is executed only then, when every object it made is gone or handed over. Descriptors are shared as well
// at first, so that what it opens can be handed over; `DescriptorTable.takeOwn` ends that, and objects that hold a
// descriptor from before must not go away after it: they would close a number of the wrong table.
//
// Measured against a fork of the same process, beginning and end of a child that does nothing: 31 µs against 146.

/// What a spawned process executes. Belongs to its maker, and outlives the spawning.
public final class Execution {
  /// Nil: the file behind `program`.
  private let path: UnsafeMutablePointer<CChar>?
  private let program: Int32
  private let arguments: [UnsafeMutablePointer<CChar>?]
  private let environment: [UnsafeMutablePointer<CChar>?]

  /// - Parameter program: the number that the file's descriptor has in the child.
  public init(program: Int32, arguments: [String], environment: [String] = []) {
    path = nil
    self.program = program
    self.arguments = arguments.map { strdup($0) } + [nil]
    self.environment = environment.map { strdup($0) } + [nil]
  }

  public init(path: String, arguments: [String], environment: [String]) {
    self.path = strdup(path)
    program = -1
    self.arguments = arguments.map { strdup($0) } + [nil]
    self.environment = environment.map { strdup($0) } + [nil]
  }

  deinit { for text in arguments + environment + [path] { free(text) } }

  /// Calls `body` with the kernel's view of this and of `prepare`, and returns what it gives and why the execve failed, 0
  /// where it did not.
  fileprivate func with(
    _ prepare: () -> Bool, _ body: (UnsafeMutablePointer<cordon_spawn>) -> pid_t
  ) -> (pid: pid_t, cause: Int32) {
    withoutActuallyEscaping(prepare) { prepare in
      var prepare = prepare
      return withUnsafeMutablePointer(to: &prepare) { context in
        arguments.withUnsafeBufferPointer { arguments in
          environment.withUnsafeBufferPointer { environment in
            var spawn = cordon_spawn()
            spawn.prepare = { context in
              context!.assumingMemoryBound(to: (() -> Bool).self).pointee() ? 1 : 0
            }
            spawn.context = UnsafeMutableRawPointer(context)
            spawn.path = path.map { UnsafePointer($0) }
            spawn.program = program
            spawn.arguments = arguments.baseAddress
            spawn.environment = environment.baseAddress
            let pid = body(&spawn)
            return (pid, spawn.cause)
          }
        }
      }
    }
  }
}

extension ProcessHandle {
  /// A child that does `prepare` in this process's memory and then, where that returns true, executes. Returns once it
  /// has, or has ended; the second value is the errno of an execve that failed.
  ///
  /// Only for a process with one thread; see `cordon_spawn`.
  public static func spawn(
    _ execution: Execution, namespaces: Namespaces = [], prepare: () -> Bool
  ) throws(SystemError) -> (ProcessHandle, cause: Int32) {
    var descriptor: Int32 = -1
    let (pid, cause) = execution.with(prepare) { cordon_spawn(namespaces.flags, -1, &descriptor, $0) }
    try SystemError.check(pid, "clone3 with \(namespaces.names)")
    return (ProcessHandle(processID: pid, descriptor: Descriptor(owning: descriptor)), cause)
  }

  /// As above, into the pid namespace of another process and into a group; the child is the caller's all the same.
  ///
  /// - Parameter own: a pidfd of the caller, where it may come back to its pid namespace by itself.
  public static func spawn(
    _ execution: Execution, beside member: ProcessHandle, own: Descriptor?, cgroup: Descriptor, prepare: () -> Bool
  ) throws(SystemError) -> (ProcessHandle, cause: Int32) {
    var descriptor: Int32 = -1
    let (pid, cause) = execution.with(prepare) { spawn in
      guard let own else { return cordon_spawn_beside(member.descriptor.raw, cgroup.raw, &descriptor, spawn) }
      return cordon_spawn_within(member.descriptor.raw, own.raw, cgroup.raw, &descriptor, spawn)
    }
    try SystemError.check(pid, "clone3 into a pid namespace")
    return (ProcessHandle(processID: pid, descriptor: Descriptor(owning: descriptor)), cause)
  }
}

extension ProcessHandle {
  /// fork(2): `child` runs in a copy of this process and must not return. For what may take long, or wait for a disk.
  ///
  /// Only for a process with one thread.
  public static func fork(child: () -> Never) throws(SystemError) -> ProcessHandle {
    var descriptor: Int32 = -1
    let pid = try SystemError.check(cordon_fork(&descriptor), "clone3")
    if pid == 0 { child() }
    return ProcessHandle(processID: pid, descriptor: Descriptor(owning: descriptor))
  }

  /// As above, into the pid namespace of another process and into a group, and returns twice: nil in the new process, which
  /// is a child of the caller's parent.
  public static func fork(
    beside member: Descriptor, cgroup: Descriptor
  ) throws(SystemError) -> ProcessHandle? {
    var descriptor: Int32 = -1
    let pid = try SystemError.check(
      cordon_fork_beside(member.raw, cgroup.raw, &descriptor), "clone3 into a pid namespace")
    return pid == 0 ? nil : ProcessHandle(processID: pid, descriptor: Descriptor(owning: descriptor))
  }
}
