import CLinux
import Glibc
import Jobs
import Kernel
import WardenProtocol

/// What one attempt's cell gets to read: `input/` and `job/` in a private directory beneath the state directory.
///
/// Only the worker writes here and only before the cell exists; the cell sees both directories through read-only
/// mounts. Files are owned by the worker and readable by everybody, because the job's uid is a stranger; that no
/// other stranger gets here is the business of the state directory's mode. Names are ours or were checked; all
/// the same every file is made by O_EXCL and O_NOFOLLOW, so that a name can be given once only.
public struct Stage: Sendable {
  /// Most bytes an input may have that is copied from the input root.
  public static let maximumInputBytes: Int64 = 4 << 30

  /// Name of the directory beneath the staging directory, as the warden is told it.
  let name: String
  private let staging: Descriptor
  private let directory: LockedDirectory
  private let input: Descriptor
  private let job: Descriptor

  static func make(beneath staging: Descriptor) throws(SandboxError) -> Stage {
    try failing("stage", "cannot make a directory for the attempt") {
      let directory = try LockedDirectory.make(beneath: staging, mode: 0o755)
      return Stage(
        name: String(decoding: directory.name, as: UTF8.self), staging: staging, directory: directory,
        input: try directory.handle.makeDirectory(FileName("input".utf8), mode: 0o755),
        job: try directory.handle.makeDirectory(FileName("job".utf8), mode: 0o755))
    }
  }

  /// Writes an input as `/input/NAME`. Throws `SandboxError` (stage `stage`) for a name that is no plain file
  /// name, a name given before, or a full disk; then no file of that name is left.
  public func writeInput(name: String, bytes: [UInt8]) throws(SandboxError) -> InputFacts {
    let digest = try write(name, beneath: input, mode: 0o444, bytes: bytes)
    return InputFacts(name: name, sha256: digest, bytes: Int64(bytes.count))
  }

  /// Writes a file of the worker's making as `/job/NAME`; errors as `writeInput`.
  public func writeJobFile(name: String, bytes: [UInt8], executable: Bool) throws(SandboxError) -> Digest {
    try write(name, beneath: job, mode: executable ? 0o555 : 0o444, bytes: bytes)
  }

  /// Writes the cell's /etc/hosts: the names of its listeners, beside its own.
  /// - Parameter names: addresses as text, and a name each.
  public func writeNames(_ names: [(address: String, name: String)]) throws(SandboxError) {
    try failing("stage", "cannot make a directory for the names") {
      let place = try directory.handle.makeDirectory(FileName(CellNetwork.namesDirectory.utf8), mode: 0o755)
      let lines = ["127.0.0.1 localhost", "127.0.0.1 cell"] + names.map { "\($0.address) \($0.name)" }
      _ = try write(
        CellNetwork.namesFile, beneath: place, mode: 0o444, bytes: Array((lines.joined(separator: "\n") + "\n").utf8))
    }
  }

  /// Copies what a program fetched into `/input`: plain files at the root of a cell's `/output`, each of which has a digest that is
  /// allowed. The cell is over, so nothing changes; what is there is hostile all the same.
  ///
  /// - Throws: `SandboxError` (stage `stage`) for the first entry that is anything else; nothing of it may be used then.
  public func takeFetched(_ output: Descriptor, allowed: Set<Jobs.Digest>, mostFiles: Int) throws(SandboxError)
    -> [InputFacts]
  {
    let names = try failing("stage", "cannot list what was fetched") { try output.names(maximum: mostFiles) }
    guard names.count <= mostFiles else {
      throw SandboxError(stage: "stage", message: "more than \(mostFiles) files were fetched")
    }
    var facts: [InputFacts] = []
    for name in names {
      let shown = String(decoding: name, as: UTF8.self)
      let source = try failing("stage", "cannot open fetched \(EscapedName.show(name))") {
        let seen = try output.status(of: name)
        guard seen.isPlainFile else {
          throw SandboxError(stage: "stage", message: "fetched \(EscapedName.show(name)) is no plain file")
        }
        let file = try output.open(beneath: name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
        guard try file.status().isSame(as: seen) else {
          throw SandboxError(stage: "stage", message: "fetched \(EscapedName.show(name)) was replaced")
        }
        return file
      }
      facts.append(
        try create(shown, beneath: input, mode: 0o444) { target in
          guard let (bytes, digest) = try source.copy(to: target, maximum: Stage.maximumInputBytes) else {
            throw SandboxError(stage: "stage", message: "fetched \(shown) is too large", errno: EFBIG)
          }
          guard allowed.contains(digest) else {
            throw SandboxError(
              stage: "stage", message: "fetched \(shown) has \(digest), which no line of the list names")
          }
          return InputFacts(name: shown, sha256: digest, bytes: bytes)
        })
    }
    return facts
  }

  /// Copies the plain file `path` beneath the operator's `root` to `/input/NAME`, following no link, and digests
  /// what was copied. Throws `SandboxError` (stage `stage`) when the path leaves the root, names anything but a
  /// plain file, or has more than `maximumBytes`.
  public func copyInput(
    name: String, root: String, path: String, maximumBytes: Int64 = Stage.maximumInputBytes
  ) throws(SandboxError) -> InputFacts {
    let source = try Stage.openPlainFile(root: root, path: path, maximumBytes: maximumBytes)
    return try create(name, beneath: input, mode: 0o444) { target in
      guard let (bytes, digest) = try source.copy(to: target, maximum: maximumBytes) else {
        throw SandboxError(stage: "stage", message: "input \(shown(path)) grew while it was copied", errno: EFBIG)
      }
      return InputFacts(name: name, sha256: digest, bytes: bytes)
    }
  }

  /// The bytes of the plain file `path` beneath the operator's `root`; as `copyInput`.
  public static func readBeneath(root: String, path: String, maximumBytes: Int64 = 64 << 20) throws(SandboxError)
    -> [UInt8]
  {
    let source = try openPlainFile(root: root, path: path, maximumBytes: maximumBytes)
    return try failing("stage", "cannot read \(shown(path))") {
      try source.readAll(limit: Int(maximumBytes))
    }
  }

  /// Removes the directory. What cannot be removed is swept by the next worker that starts here.
  public func remove() {
    try? staging.removeTree(directory.name)
  }

  // MARK: - Beneath the input root

  /// Opened twice: first without any access, because opening a device or a FIFO for reading can already do
  /// something; then, if it is a plain file, for reading, and it must still be the same one.
  private static func openPlainFile(root: String, path: String, maximumBytes: Int64) throws(SandboxError) -> Descriptor
  {
    guard !path.isEmpty, !path.utf8.contains(0), !path.hasPrefix("/") else {
      throw SandboxError(stage: "stage", message: "input path \(shown(path)) is not relative to the input root")
    }
    let directory = try failing("stage", "cannot open the input root", fix: "approve an existing directory") {
      try Descriptor.directory(root)
    }
    let name = FileName(path.utf8)
    // The operator may mount beneath the root; links are what another program may have put there.
    let resolution: Resolution = [.beneath, .noSymbolicLinks, .noMagicLinks]
    return try failing("stage", "cannot open input \(shown(path)) beneath the input root") {
      let first = try directory.open(beneath: name, cordon_o_path | O_NOFOLLOW, resolution: resolution).status()
      guard first.isPlainFile else {
        throw SandboxError(stage: "stage", message: "input \(shown(path)) is no plain file")
      }
      guard first.st_size <= maximumBytes else {
        throw SandboxError(
          stage: "stage", message: "input \(shown(path)) has \(first.st_size) bytes, more than \(maximumBytes)",
          errno: EFBIG)
      }
      let handle = try directory.open(
        beneath: name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, resolution: resolution)
      guard try handle.status().isSame(as: first) else {
        throw SandboxError(stage: "stage", message: "input \(shown(path)) was replaced while it was opened")
      }
      return handle
    }
  }

  // MARK: - Writing

  private func write(_ name: String, beneath directory: Descriptor, mode: mode_t, bytes: [UInt8]) throws(SandboxError)
    -> Digest
  {
    try create(name, beneath: directory, mode: mode) { target in
      try target.writeAll(bytes)
      return sha256(bytes)
    }
  }

  private func create<Value>(
    _ name: String, beneath directory: Descriptor, mode: mode_t, fill: (Descriptor) throws -> Value
  ) throws(SandboxError) -> Value {
    guard Stage.isPlainName(name) else {
      throw SandboxError(stage: "stage", message: "\(shown(name)) is no plain file name")
    }
    let bytes = FileName(name.utf8)
    let handle = try failing("stage", "cannot write \(name)") {
      try directory.open(beneath: bytes, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
    }
    do {
      return try failing("stage", "cannot write \(name)") {
        let value = try fill(handle)
        try handle.setMode(mode)
        return value
      }
    } catch {
      try? directory.removeTree(bytes)
      throw error
    }
  }

  /// `[A-Za-z0-9._-]+` that starts with neither `.` nor `-`, of at most 255 bytes: what the database accepts.
  static func isPlainName(_ name: String) -> Bool {
    guard let first = name.utf8.first, first != UInt8(ascii: "."), first != UInt8(ascii: "-"),
      name.utf8.count <= Int(NAME_MAX)
    else { return false }
    return name.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
        true
      default: false
      }
    }
  }
}

private func shown(_ text: String) -> String { "\"\(EscapedName.show(text.utf8.prefix(1_024)))\"" }
