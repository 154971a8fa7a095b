import CLinux
import Glibc
import Kernel
import WardenProtocol

// Theory of operation
//
// A cell's /output that lies on a disk is an ext4 filesystem of the size of its limits, in a file of the warden's own that
// is mounted through a loop device. Nothing of it has a name on the host, so nothing has to be cleaned up:
//
//   file      has no name and goes with its last descriptor, which is the loop device's; all its blocks are allocated before
//             the job starts, so a disk that is full is found then, and the job cannot fill it
//   device    is let go of by the kernel when it is neither open nor mounted (autoclear)
//   mount     is in the cell's mount namespace alone and ends with it, but for the descriptor of its root that the worker
//             collects from
//
// All of it is made by a process of its own, because a disk may keep whoever writes to it waiting, and the warden keeps
// the clocks of all cells. It is the warden's child and outside the cell's groups: its memory and its child are not the
// job's to pay for. Only when it has handed the mount over is the cell built (`SupervisorDisks`).
//
// mkfs.ext4 is executed with fixed arguments and no environment but what makes it take the absence of /etc/mtab. The
// image is the kernel's and ours alone: the job has no device node and no request that reaches the device.

/// What the warden holds of the host to make outputs on a disk.
struct OutputDisk {
  /// On whose filesystem the files lie.
  var directory: Descriptor
  /// Where the kernel makes the nodes of loop devices.
  var devices: Descriptor
  /// /dev/loop-control.
  var control: Descriptor
  /// mkfs.ext4, as a path in the template.
  var program: String

  static let controlName = "outputs.disk"
  private static let programs = ["/usr/sbin/mkfs.ext4", "/usr/bin/mkfs.ext4", "/sbin/mkfs.ext4"]

  /// Looks for everything while the host's tree is still there.
  static func find(directory: String?, mode: WardenFacts.Mode) -> Result<OutputDisk, Refusal> {
    do throws(Refusal) { return .success(try open(directory, mode)) } catch { return .failure(error) }
  }

  private static func open(_ path: String?, _ mode: WardenFacts.Mode) throws(Refusal) -> OutputDisk {
    guard mode == .root else {
      throw Refusal(
        control: controlName, stage: "only root can mount a filesystem in a file", fix: "run the worker as root")
    }
    guard let path else {
      throw Refusal(control: controlName, stage: "no directory is named for it", fix: "cordon-warden --outputs DIR")
    }
    let directory = try requiring(controlName) { () throws(SystemError) in
      try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
    }
    guard try !requiring(controlName, { () throws(SystemError) in try directory.liesInMemory() }) else {
      throw Refusal(
        control: controlName, stage: "\(path) lies in memory",
        fix: "put the worker's --data directory on a filesystem of a disk")
    }
    _ = try requiring(controlName, fix: "put the worker's --data directory on ext4, xfs or btrfs") {
      () throws(SystemError) in try directory.makeNamelessFile()
    }
    let loop = "modprobe loop; in a container also --device /dev/loop-control and the loop devices"
    let devices = try requiring(controlName, fix: loop) { () throws(SystemError) in
      try Descriptor.open("/dev", O_RDONLY | O_DIRECTORY)
    }
    let control = try requiring(controlName, fix: loop) { () throws(SystemError) in
      try Descriptor.open("loop-control", O_RDWR, at: devices)
    }
    try requiring(controlName, fix: "modprobe ext4") { () throws(SystemError) in
      try DetachedMount.isKnown("ext4")
    }
    guard let program = programs.first(where: { access($0, X_OK) == 0 }) else {
      throw Refusal(control: controlName, stage: "there is no mkfs.ext4", fix: "apt-get install e2fsprogs")
    }
    return OutputDisk(directory: directory, devices: devices, control: control, program: program)
  }
}

extension OutputDisk {
  /// Sets a maker to work; what it has to say comes over the socket.
  static func begin(
    shape: CellShape, user: UInt32, host: Host
  ) throws(Refusal) -> (maker: ProcessHandle, socket: PacketSocket) {
    let disk = try host.disk.get()
    return try requiring(controlName) { () throws(SystemError) in
      let (socket, theirs) = try PacketSocket.pair()
      let maker = DiskMaker(geometry: shape.outputGeometry, user: user, group: host.grounds.mode.group(of: user))
      let process = try ProcessHandle.fork { maker.run(disk, socket: theirs, proc: host.proc, null: host.grounds.null) }
      try socket.descriptor.setNonBlocking()
      return (process, socket)
    }
  }

  /// What a maker said.
  static func mount(_ message: PacketSocket.Message?) throws(Refusal) -> DetachedMount {
    guard let message else {
      throw Refusal(control: controlName, stage: "the process that makes it ended without a word")
    }
    if let mount = message.descriptors.first, message.bytes == DiskMaker.made {
      return DetachedMount(descriptor: mount)
    }
    if case .cannot(let refusal)? = try? WardenReply(decoding: message.bytes) { throw refusal }
    throw Refusal(control: controlName, stage: "its maker said something else than a mount")
  }
}

extension CellShape {
  /// Of an /output on a disk.
  var outputGeometry: Ext4Geometry { Ext4Geometry(bytes: outputBytes, files: outputFiles) }
}

extension Cell {
  /// Whether /output holds more than its limits.
  func isExhausted(_ space: FilesystemSpace) -> Bool {
    guard shape.outputs == .disk, let emptyOutput else { return space.isExhausted }
    return shape.outputGeometry.isExceeded(space, since: emptyOutput)
  }
}

extension Result where Failure == Refusal {
  var refusal: Refusal? {
    if case .failure(let refusal) = self { refusal } else { nil }
  }
}
