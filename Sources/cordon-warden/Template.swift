import CLinux
import Glibc
import Kernel
import WardenProtocol

// Theory of operation
//
// The template is a small tmpfs that becomes the root of the warden's mount namespace; cells copy that namespace.
// Everything is cloned from the host's tree as detached mounts first, then the template is mounted over /usr (the
// one directory that is certainly there, and cloned already), filled, and made the root; the host's tree is let go.
//
// The warden's own mount namespace has the staging directory at /job as well, to copy stages from; it is a copy of the one
// that cells copy, which has not. Where there is a user namespace the host's /proc, which the kernel wants to see before it
// allows a new one, is at /proc, and detached while a cell is built.

/// The root that every cell starts from.
struct Template {
  var staging: String
  var mode: WardenFacts.Mode
  /// Uids that shall have the name `job`.
  var users: [UInt32]
  /// Gid of a job with this uid.
  var group: (UInt32) -> UInt32

  /// Where the mounts of one cell go.
  enum Path {
    static let proc = "/proc"
    static let temporary = "/tmp"
    static let sharedMemory = "/dev/shm"
    static let input = "/input"
    static let output = "/output"
    static let result = "/result"
    static let job = "/job"
    static let hosts = "/etc/hosts"
    /// The staging directory, for the warden.
    static let staging = job
  }

  /// Directories beside /usr that a merged layout has as links into it.
  private static let linked = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"]
  /// Where the programs of a cell are; some of them links, or not there.
  static let programs = ["/usr"] + linked.map { "/" + $0 }
  /// Beneath /usr: the host's own configuration, a usual place of registry tokens and proxy passwords.
  private static let localConfiguration = "local/etc"
  static let devices = ["null", "zero", "full", "random", "urandom"]
  private static let hidden: MountAttributes = [.readOnly, .noSetuid, .noDevices, .noExecution]

  /// Makes the template this process's root, and returns the staging directory.
  func enter() throws(SystemError) -> DetachedMount {
    let system: MountAttributes = [.readOnly, .noSetuid, .noDevices]
    var mounts: [(DetachedMount, String)] = []
    func add(_ source: String, at target: String, _ attributes: MountAttributes) throws(SystemError) {
      let mount = try DetachedMount.clone(source, recursive: true)
      try mount.restrict(attributes, recursive: true)
      mounts.append((mount, target))
    }
    let root = try DetachedMount.create(
      "tmpfs", options: [("size", "4m"), ("nr_inodes", "8192"), ("mode", "0755")],
      attributes: [.noSetuid, .noDevices, .noExecution])
    let directory = root.descriptor
    for path in ["usr", "etc", "dev", "dev/shm", "proc", "tmp", "input", "output", "result", "job"] {
      try SystemError.check(mkdirat(directory.raw, path, 0o755), "mkdir \(path)")
    }
    try add("/usr", at: "usr", system)
    if let cover = try Template.cover(mounts[0].0) { mounts.append((cover, "usr/" + Template.localConfiguration)) }
    for name in Template.linked {
      if let target = Template.link("/\(name)") {
        try SystemError.check(symlinkat(target, directory.raw, name), "symlink \(name)")
      } else if access("/\(name)", F_OK) == 0 {
        try SystemError.check(mkdirat(directory.raw, name, 0o755), "mkdir \(name)")
        try add("/\(name)", at: name, system)
      }
    }
    for device in Template.devices {
      try Template.write("", to: "dev/\(device)", in: directory)
      // The inode is the host's: read-only keeps its times and modes as they are, and stops no write to the device.
      try add("/dev/\(device)", at: "dev/\(device)", [.readOnly, .noSetuid, .noExecution])
    }
    for (name, target) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
      try SystemError.check(symlinkat("/proc/self/\(target)", directory.raw, "dev/\(name)"), "symlink dev/\(name)")
    }
    try writeConfiguration(in: directory)
    let staging = try DetachedMount.clone(staging, recursive: true)
    try staging.restrict(Template.hidden, recursive: true)
    if mode == .userNamespace { try add("/proc", at: "proc", []) }

    try root.attach(at: "/usr")
    for (mount, target) in mounts { try mount.attach(at: target, in: directory) }
    try SystemError.check(fchdir(directory.raw), "enter template")
    try MountNamespace.pivotHere()
    try MountNamespace.restrictRoot(Template.hidden)
    return staging
  }

  /// A synthetic /etc: enough for libc to name users and find libraries, nothing of the host's secrets.
  private func writeConfiguration(in root: Descriptor) throws(SystemError) {
    var passwd = "root:x:0:0:root:/:/usr/sbin/nologin\n"
    var group = "root:x:0:\n"
    for user in users {
      passwd += "job:x:\(user):\(self.group(user)):job:/tmp:/usr/bin/bash\n"
      group += "job:x:\(self.group(user)):\n"
    }
    try Template.write(passwd, to: "etc/passwd", in: root)
    try Template.write(group, to: "etc/group", in: root)
    try Template.write("127.0.0.1 localhost\n::1 localhost\n127.0.0.1 cell\n", to: "etc/hosts", in: root)
    try Template.write(
      "passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\nprotocols: files\n",
      to: "etc/nsswitch.conf", in: root)
    for name in ["ld.so.cache", "ld.so.conf"] {
      guard let file = try? Descriptor.open("/etc/\(name)") else { continue }
      try Template.write(try file.readAll(limit: 2 << 20), to: "etc/\(name)", in: root)
    }
    try SystemError.check(symlinkat("/usr/share/zoneinfo/UTC", root.raw, "etc/localtime"), "symlink etc/localtime")
    try copyAlternatives(in: root)
  }

  /// Programs such as awk are links through /etc/alternatives on Debian and Fedora.
  private func copyAlternatives(in root: Descriptor) throws(SystemError) {
    guard let source = try? Descriptor.open("/etc/alternatives", O_RDONLY | O_DIRECTORY) else { return }
    try SystemError.check(mkdirat(root.raw, "etc/alternatives", 0o755), "mkdir etc/alternatives")
    for name in try source.entries() {
      guard let target = Template.link("/etc/alternatives/\(name)"), target.hasPrefix("/usr/") else { continue }
      try SystemError.check(
        symlinkat(target, root.raw, "etc/alternatives/\(name)"), "symlink etc/alternatives/\(name)")
    }
  }

  /// An empty directory to lie over /usr/local/etc; nil where there is none, or where links lead to it and so out
  /// of what a cell sees.
  private static func cover(_ system: DetachedMount) throws(SystemError) -> DetachedMount? {
    let flags = cordon_o_path | O_DIRECTORY
    guard
      (try? system.descriptor.open(
        beneath: localConfiguration, flags, resolution: [.beneath, .noSymbolicLinks])) != nil
    else { return nil }
    return try DetachedMount.create(
      "tmpfs", options: [("size", "4k"), ("nr_inodes", "1"), ("mode", "0755")], attributes: hidden)
  }

  static func link(_ path: String) -> String? {
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
    let count = readlink(path, &buffer, buffer.count)
    return count > 0 ? String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
  }

  private static func write(_ text: String, to path: String, in root: Descriptor) throws(SystemError) {
    try write(Array(text.utf8), to: path, in: root)
  }

  private static func write(_ bytes: [UInt8], to path: String, in root: Descriptor) throws(SystemError) {
    try Descriptor.open(path, O_WRONLY | O_CREAT | O_EXCL, mode: 0o644, at: root).writeAll(bytes)
  }
}
