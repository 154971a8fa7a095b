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
  /// Root, the result, the progress, and what a job writes beside each before it renames.
  private static let resultInodes = 8
  /// One page, so that a result of the full size is known from a larger one, and two for the progress as it is and as it
  /// is about to be.
  private static let beside = 3 * pageBytes
  static let pageBytes: Int64 = 4_096

  private static let proc = """
    a new /proc needs Linux 5.8, and without root one that nothing is mounted over \
    (container: --security-opt systempaths=unconfined)
    """

  /// What the warden keeps of a cell's filesystems.
  struct Areas {
    /// The root of /output.
    var output: Descriptor
    /// The root of /result.
    var result: Descriptor
  }

  /// Lays them all. In a process that has joined the cell's namespaces and is still privileged.
  ///
  /// - Parameter disk: what /output is, where it does not lie in memory.
  func lay(disk: DetachedMount?) throws(Refusal) -> Areas {
    try requiring("proc", fix: CellFilesystem.proc) { () throws(SystemError) in
      if mode == .userNamespace {
        // The host's stays until the kernel has seen it, and then goes.
        let proc = try DetachedMount.create("proc", options: CellFilesystem.procOptions, attributes: Self.hidden)
        try MountNamespace.unmount(Template.Path.proc)
        try proc.attach(at: Template.Path.proc)
      } else {
        // The instance is that of the pid namespace of the process that makes it.
        try MountNamespace.mount(
          "proc", at: Template.Path.proc, options: CellFilesystem.procOptions, attributes: Self.hidden)
      }
    }
    return try requiring("mounts") { () throws(SystemError) in
      try temporary(at: Template.Path.temporary, shape.isTemporaryExecutable ? [] : .noExecution)
      try temporary(at: Template.Path.sharedMemory, .noExecution)
      if let disk { try disk.attach(at: Template.Path.output) } else { try outputInMemory() }
      try memory(
        at: Template.Path.result, bytes: CellFilesystem.pages(shape.resultBytes) + CellFilesystem.beside,
        inodes: Int64(CellFilesystem.resultInodes), mode: "0700", .noExecution)
      let flags = O_RDONLY | O_DIRECTORY
      return Areas(
        output: try Descriptor.open(Template.Path.output, flags),
        result: try Descriptor.open(Template.Path.result, flags))
    }
  }

  private static let procOptions = [("subset", "pid"), ("hidepid", "2")]
  private static let hidden: MountAttributes = [.noSetuid, .noDevices, .noExecution]

  /// What the job may do with files, told to Landlock as well. In the job's own process, with a table of its own.
  func restrict(_ landlock: LandlockGrounds) throws(SystemError) {
    let rules = try Landlock(version: landlock.version, connects: shape.isNetworked)
    for (place, rights) in landlock.shared { try rules.allow(rights, beneath: place) }
    for path in [Template.Path.temporary, Template.Path.sharedMemory, Template.Path.output, Template.Path.result] {
      let executable: Landlock.Rights = path == Template.Path.temporary && shape.isTemporaryExecutable ? .execute : []
      let place = Landlock.Place(try Descriptor.open(path, cordon_o_path), isDirectory: true)
      try rules.allow(Landlock.Rights([.write, .change]).union(executable), beneath: place)
    }
    try rules.restrict()
  }

  /// Above what any filesystem of the cell holds, so that a full one is ENOSPC and not SIGXFSZ.
  var largestFile: UInt64 {
    let disk = shape.outputs == .disk ? shape.outputGeometry.bytes : 0
    let largest = max(shape.outputBytes, shape.temporaryBytes, shape.resultBytes)
    return max(disk, UInt64(CellFilesystem.pages(largest) + CellFilesystem.beside + CellFilesystem.pageBytes))
  }

  /// One page and one inode more than the limit, beside the root's own inode: an area that has neither left has been
  /// asked for more than its limit, and one that is merely full has not.
  private func outputInMemory() throws(SystemError) {
    try memory(
      at: Template.Path.output, bytes: CellFilesystem.pages(shape.outputBytes) + CellFilesystem.pageBytes,
      inodes: shape.outputFiles + 2, mode: "0700", .noExecution)
  }

  private func temporary(at path: String, _ attributes: MountAttributes) throws(SystemError) {
    try memory(
      at: path, bytes: shape.temporaryBytes, inodes: Int64(CellFilesystem.temporaryInodes), mode: "1777", attributes)
  }

  private func memory(
    at path: String, bytes: Int64, inodes: Int64, mode: String, _ attributes: MountAttributes
  ) throws(SystemError) {
    try MountNamespace.mount(
      "tmpfs", at: path,
      options: [
        ("size", "\(max(CellFilesystem.pageBytes, CellFilesystem.pages(bytes)))"), ("nr_inodes", "\(inodes)"),
        ("mode", mode), ("uid", "\(user)"), ("gid", "\(group)"),
      ], attributes: attributes.union([.noSetuid, .noDevices]))
  }

  private static func pages(_ bytes: Int64) -> Int64 { (bytes + pageBytes - 1) / pageBytes * pageBytes }
}
