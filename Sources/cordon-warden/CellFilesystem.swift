import CLinux
import Glibc
import Kernel
import WardenProtocol

/// The mounts that are a cell's own, laid over the template in the cell's mount namespace.
struct CellFilesystem {
  var mode: WardenFacts.Mode
  var shape: CellShape
  var user: UInt32
  var group: UInt32

  /// Kernel memory of a file's inode is about 1 KiB, so this bounds what empty files can take.
  private static let temporaryInodes = 16_384
  /// Root, the result, and what a job writes beside it before it renames.
  private static let resultInodes = 8
  static let pageBytes: Int64 = 4_096

  private static let proc = """
    a new /proc needs Linux 5.8, and without root one that nothing is mounted over \
    (container: --security-opt systempaths=unconfined)
    """

  /// Lays them all, and returns the roots of /output and /result. In a process that has joined the cell's namespaces and
  /// is still privileged. `disk` is where /output comes from if it lies on one.
  func lay(disk: PacketSocket) throws(Refusal) -> (output: Descriptor, result: Descriptor) {
    try requiring("proc", fix: CellFilesystem.proc) { () throws(SystemError) in
      // The instance is that of the pid namespace of the process that makes it.
      let proc = try DetachedMount.create(
        "proc", options: [("subset", "pid"), ("hidepid", "2")], attributes: [.noSetuid, .noDevices, .noExecution])
      if mode == .userNamespace { try MountNamespace.unmount(Template.Path.proc) }
      try proc.attach(at: Template.Path.proc)
    }
    let onDisk = try shape.outputs == .disk ? OutputDisk.receive(from: disk) : nil
    return try requiring("mounts") { () throws(SystemError) in
      try MountNamespace.unmount(Template.Path.staging)
      try temporary([]).attach(at: Template.Path.temporary)
      try temporary(.noExecution).attach(at: Template.Path.sharedMemory)
      if let onDisk {
        try onDisk.attach(at: Template.Path.output)
      } else {
        try outputInMemory().attach(at: Template.Path.output)
      }
      let result = try memory(
        bytes: CellFilesystem.pages(shape.resultBytes) + CellFilesystem.pageBytes,
        inodes: Int64(CellFilesystem.resultInodes), mode: "0700", .noExecution)
      try result.attach(at: Template.Path.result)
      let flags = O_RDONLY | O_DIRECTORY
      return (
        try Descriptor.open(Template.Path.output, flags), try Descriptor.open(Template.Path.result, flags)
      )
    }
  }

  /// What the job may do with files, told to Landlock as well. Nothing where the kernel has none.
  func restrict(version: Int32?) throws(SystemError) {
    guard let version else { return }
    let rules = try Landlock(version: version)
    try rules.allow(.read, beneath: "/")
    for path in Template.programs where access(path, F_OK) == 0 { try rules.allow(.execute, beneath: path) }
    for path in [Template.Path.temporary, Template.Path.sharedMemory, Template.Path.output, Template.Path.result] {
      try rules.allow([.write, .change], beneath: path)
    }
    try rules.allow(.execute, beneath: Template.Path.temporary)
    for device in Template.devices { try rules.allow([.read, .write], beneath: "/dev/\(device)") }
    try rules.restrict()
  }

  /// Above what any filesystem of the cell holds, so that a full one is ENOSPC and not SIGXFSZ.
  var largestFile: UInt64 {
    let disk = shape.outputs == .disk ? shape.outputGeometry.bytes : 0
    let largest = max(shape.outputBytes, shape.temporaryBytes, shape.resultBytes)
    return max(disk, UInt64(CellFilesystem.pages(largest) + 2 * CellFilesystem.pageBytes))
  }

  /// One page and one inode more than the limit, beside the root's own inode: an area that has neither left has been
  /// asked for more than its limit, and one that is merely full has not.
  private func outputInMemory() throws(SystemError) -> DetachedMount {
    try memory(
      bytes: CellFilesystem.pages(shape.outputBytes) + CellFilesystem.pageBytes, inodes: shape.outputFiles + 2,
      mode: "0700", .noExecution)
  }

  private func temporary(_ attributes: MountAttributes) throws(SystemError) -> DetachedMount {
    try memory(
      bytes: shape.temporaryBytes, inodes: Int64(CellFilesystem.temporaryInodes), mode: "1777", attributes)
  }

  /// A tmpfs that belongs to the job. A size or number of 0 would mean no limit, so the least is one page.
  private func memory(
    bytes: Int64, inodes: Int64, mode: String, _ attributes: MountAttributes
  ) throws(SystemError) -> DetachedMount {
    try DetachedMount.create(
      "tmpfs",
      options: [
        ("size", "\(max(CellFilesystem.pageBytes, CellFilesystem.pages(bytes)))"), ("nr_inodes", "\(inodes)"),
        ("mode", mode), ("uid", "\(user)"), ("gid", "\(group)"),
      ], attributes: attributes.union([.noSetuid, .noDevices]))
  }

  private static func pages(_ bytes: Int64) -> Int64 { (bytes + pageBytes - 1) / pageBytes * pageBytes }
}
