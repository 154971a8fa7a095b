import CLinux
import Glibc
import Kernel
import WardenProtocol

/// Makes one filesystem, in a process forked from the warden that does nothing else; see `OutputDisk`.
struct DiskMaker {
  var geometry: Ext4Geometry
  var user: UInt32
  var group: UInt32

  /// What is said with the mount; what goes wrong is said as the warden says it to the worker.
  static let made: [UInt8] = []

  /// Numbers of the descriptors that are kept, in the order they are given in.
  private static let firstKept: Int32 = 3
  private static let space = """
    free space on the filesystem of the worker's --data directory, or ask for less with limits.output
    """

  /// Never returns.
  func run(_ disk: OutputDisk, socket: PacketSocket, proc: Descriptor, null: Descriptor) -> Never {
    cordon_reset_signals()
    guard cordon_die_with_parent() == 0 else { _exit(1) }
    let kept = DiskMaker.keepOnly([socket.descriptor, disk.directory, disk.devices, disk.control, proc], null: null)
    let warden = PacketSocket(kept[0])
    do throws(Refusal) {
      let mount = try make(directory: kept[1], devices: kept[2], control: kept[3], proc: kept[4], disk.program)
      try requiring(OutputDisk.controlName) { () throws(SystemError) in
        try warden.send(DiskMaker.made, descriptors: [mount.descriptor])
      }
    } catch {
      try? warden.send(WardenReply.cannot(error).encoded)
    }
    _exit(0)
  }

  private func make(
    directory: Descriptor, devices: Descriptor, control: Descriptor, proc: Descriptor, _ program: String
  ) throws(Refusal) -> DetachedMount {
    let file = try step { () throws(SystemError) in try directory.makeNamelessFile() }
    try step(fix: DiskMaker.space) { () throws(SystemError) in try file.preallocate(geometry.bytes) }
    // The paths of open files are of the proc filesystem, which is not in the template.
    try step { () throws(SystemError) in try SystemError.check(fchdir(proc.raw), "enter /proc") }
    try format(file, program)
    let device = try step(fix: "see that /dev is the kernel's devtmpfs and allows loop devices") {
      () throws(SystemError) in try LoopDevice.bind(file, control: control, devices: devices)
    }
    return try withExtendedLifetime(device) { () throws(Refusal) in
      let mount = try step(fix: "see the kernel's log") { () throws(SystemError) in
        // What is lost with the machine was never anybody's: no barriers. The tables read as zeros already.
        try DetachedMount.create(
          "ext4", options: [("source", DiskMaker.path(of: device.descriptor)), ("errors", "remount-ro")],
          flags: ["nobarrier", "noinit_itable", "nodiscard"],
          attributes: [.noSetuid, .noDevices, .noExecution])
      }
      try step { () throws(SystemError) in try handOver(mount) }
      return mount
    }
  }

  private func format(_ file: Descriptor, _ program: String) throws(Refusal) {
    // No profile of the host's, and no /etc/mtab that would say what is mounted.
    let execution = Execution(
      path: program, arguments: [program] + geometry.arguments(path: DiskMaker.path(of: file)),
      environment: ["MKE2FS_CONFIG=/dev/null", "EXT2FS_NO_MTAB_OK=1", "PATH=/usr/sbin:/usr/bin"])
    let (process, _) = try step { () throws(SystemError) in
      // What the warden leaves inheritable is for its zygotes.
      try ProcessHandle.spawn(execution) {
        cordon_die_with_parent() == 0 && fcntl(file.raw, F_SETFD, 0) == 0 && (try? Capabilities.dropAll()) != nil
      }
    }
    var status: Int32 = 0
    while waitpid(process.processID, &status, 0) < 0, errno == EINTR {}
    guard WaitStatus(raw: status) == .exited(0) else {
      let end = WaitStatus(raw: status).map { "\($0)" } ?? "unknown"
      throw Refusal(
        control: OutputDisk.controlName, stage: "\(program) failed (\(end))",
        fix: "see what it wrote to the warden's log; e2fsprogs 1.46 or later is needed")
    }
  }

  /// Makes the root the job's, as empty as a new directory, and sees that there is room for all that was asked for.
  private func handOver(_ mount: DetachedMount) throws(SystemError) {
    let root = try Descriptor.open(".", O_RDONLY | O_DIRECTORY, at: mount.descriptor)
    try SystemError.check(unlinkat(root.raw, "lost+found", AT_REMOVEDIR), "remove lost+found")
    // While it is still root's: the warden keeps no right over what is not its own.
    try SystemError.check(fchmod(root.raw, 0o700), "make /output private")
    try SystemError.check(fchown(root.raw, user, group), "give /output to uid \(user)")
    var space = statvfs()
    try SystemError.check(fstatvfs(root.raw, &space), "fstatvfs")
    guard geometry.fits(try .of(root), availableBlocks: Int64(clamping: space.f_bavail)) else {
      throw SystemError("mkfs left \(space.f_bavail) blocks and \(space.f_ffree) inodes, too few", errno: 0)
    }
  }

  @discardableResult
  private func step<Value>(fix: String = "", _ body: () throws(SystemError) -> Value) throws(Refusal) -> Value {
    try requiring(OutputDisk.controlName, fix: fix, body)
  }

  /// Beneath the root of a proc filesystem.
  private static func path(of descriptor: Descriptor) -> String { "self/fd/\(descriptor.raw)" }

  /// Leaves /dev/null as 0 and 1, the warden's log as 2, and those given.
  private static func keepOnly(_ descriptors: [Descriptor], null: Descriptor) -> [Descriptor] {
    let lowestCopy: Int32 = 16
    let copies = descriptors.map { fcntl($0.raw, F_DUPFD_CLOEXEC, lowestCopy) }
    for standard: Int32 in 0...1 where null.raw != standard { dup2(null.raw, standard) }
    let numbers = copies.indices.map { firstKept + Int32($0) }
    for (copy, number) in zip(copies, numbers) { dup2(copy, number) }
    let behind = UInt32(firstKept) + UInt32(copies.count)
    cordon_close_range(behind, UInt32.max)
    cordon_cloexec_range(UInt32(firstKept), behind - 1)
    return numbers.map { Descriptor(owning: $0) }
  }
}
