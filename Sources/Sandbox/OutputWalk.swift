import Glibc
import Jobs
import Kernel

// Theory of operation
//
// The tree was made by the job, and every process that could change it is dead: the warden hands the descriptor of
// `/output` over only when the cell's cgroup is empty. The walk relies on that for consistency, never for safety.
//
// Each entry is first looked at without opening it (fstatat, no following). Only what is a plain file with one
// link is opened, by openat2 relative to the directory descriptor that was listed, refusing links, magic links and
// mounts, and without blocking; then it is looked at again through the descriptor, and must be the very file seen
// before. It is copied and digested from that one descriptor, and looked at a third time: a file that changed
// under the copy is no evidence of anything. Whatever fails a step is listed with the reason and not published.
//
// Bounds: entries (the job's own limit), depth (a descriptor is open for every level), path length (a published
// file must be reachable by its path), bytes by apparent size (a sparse file costs the job nothing), refused entries
// that are listed, the names of the whole list (it goes into one row), and time. Running out of names or of time is
// the tree's doing, so it is a finding and no failure of ours: nothing is published then, because half a tree is no
// output. What was copied is made durable at once by `Outputs`: a sync for each file would let a job of many small
// ones hold its worker up.

/// Copies one output tree into a directory of ours and says what became of each entry.
struct OutputWalk {
  /// Deepest directory beneath `/output` that is entered.
  static let maximumDepth = 32
  /// Longest path beneath `/output`, in bytes.
  static let maximumPathBytes = 1_024
  /// Longest time one collection of outputs in memory may take.
  static let patience = Duration.seconds(20)
  /// What outputs on a disk are copied by at least, in a second: they may be as large as their limit says.
  static let leastDiskRate: Int64 = 16 << 20
  /// Longest list of refused entries; the others are counted in one more entry.
  static let maximumRefused = 1_000
  /// The reason for what holds a credential that the attempt's requests carried.
  private static let secret = "secret"
  /// Bytes of all names in both lists, as they are shown.
  static let maximumNameBytes = 4 << 20

  private(set) var artifacts: [Artifact] = []
  private(set) var quarantined: [Quarantined] = []
  private(set) var bytes: Int64 = 0
  /// Why nothing of this tree may be published; nil when the walk came to its end.
  private(set) var problem: String?

  private let maximumBytes: Int64
  private let maximumEntries: Int64
  private var entries: Int64 = 0
  private var refused = 0
  private var nameBytes = 0
  private let deadline: ContinuousClock.Instant
  private let patience: Duration
  private let screen: OutputScreen?
  private let isCancelled: @Sendable () -> Bool
  private var end: End?
  /// Called between looking at an entry and opening it; tests swap the entry there.
  private let beforeOpening: (FileName) -> Void

  /// Why the walk goes no further.
  private enum End: String {
    case tooSlow = "too_slow"
    case tooMany = "too_many"
    case cancelled
  }

  init(
    limits: Limits, storage: OutputStorage = .memory, screen: OutputScreen? = nil, now: ContinuousClock.Instant = .now,
    isCancelled: @escaping @Sendable () -> Bool = { false },
    beforeOpening: @escaping (FileName) -> Void = { _ in }
  ) {
    maximumBytes = limits.outputBytes
    maximumEntries = limits.outputFiles
    let longer = storage == .disk ? limits.outputBytes / Self.leastDiskRate : 0
    patience = Self.patience + .seconds(longer)
    deadline = now.advanced(by: patience)
    self.screen = screen
    self.isCancelled = isCancelled
    self.beforeOpening = beforeOpening
  }

  /// Throws only where the copy cannot be made (`SandboxError`, a full disk first of all) or was cancelled; what is
  /// wrong with the tree is listed.
  /// - Parameter makeTarget: makes the directory of the copy, once, when there is something to copy.
  mutating func collect(
    _ source: Descriptor, into makeTarget: @escaping () throws(SandboxError) -> Descriptor
  ) throws(SandboxError) {
    try walk(source, path: [], into: TargetDirectory(makeTarget), depth: 0)
    switch end {
    case .cancelled: throw SandboxError(stage: "collect", message: "cancelled")
    case nil: break
    case .tooSlow: giveUp(.tooSlow, "the output tree took longer than \(patience) to collect")
    case .tooMany: giveUp(.tooMany, "the names in the output tree have more than \(Self.maximumNameBytes) bytes")
    }
    let unlisted = refused - Self.maximumRefused
    if end == nil, unlisted > 0 {
      quarantined.append(Quarantined(path: "\u{2026} and \(unlisted) more", reason: End.tooMany.rawValue))
    }
  }

  private mutating func giveUp(_ end: End, _ why: String) {
    artifacts = []
    bytes = 0
    quarantined.append(Quarantined(path: "\u{2026} and the rest", reason: end.rawValue))
    problem = "outputs_refused: \(why)"
  }

  /// False once the walk has to stop.
  private mutating func goesOn() -> Bool {
    if end != nil { return false }
    if isCancelled() {
      end = .cancelled
    } else if ContinuousClock.now >= deadline {
      end = .tooSlow
    }
    return end == nil
  }

  /// The name as it is listed; nil, and the end of the walk, when it is one too many.
  private mutating func listed(_ path: [UInt8]) -> String? {
    // First concealed, then cut: of a secret that lies across the cut nothing would be found.
    let shown = EscapedName.show((screen?.conceal(path) ?? path).prefix(Self.maximumPathBytes))
    nameBytes += shown.utf8.count
    guard nameBytes <= Self.maximumNameBytes else {
      end = .tooMany
      return nil
    }
    return shown
  }

  private mutating func walk(_ source: Descriptor, path: [UInt8], into target: TargetDirectory, depth: Int)
    throws(SandboxError)
  {
    let names: [FileName]
    do {
      names = try source.names(maximum: Int(clamping: max(0, maximumEntries - entries)))
    } catch {
      return refuse(path.isEmpty ? Array(".".utf8) : path, "unreadable")
    }
    for name in names {
      guard goesOn() else { return }
      let path = path.isEmpty ? name : path + [UInt8(ascii: "/")] + name
      entries += 1
      guard entries <= maximumEntries else {
        refuse(path, "too_many")
        break
      }
      guard path.count <= Self.maximumPathBytes else {
        refuse(path, "name")
        continue
      }
      guard screen?.finds(in: path) != true else {
        refuse(path, Self.secret)
        continue
      }
      try take(name, of: source, path: path, into: target, depth: depth)
    }
  }

  private mutating func take(
    _ name: FileName, of source: Descriptor, path: [UInt8], into target: TargetDirectory, depth: Int
  ) throws(SandboxError) {
    guard let seen = try? source.status(of: name) else { return refuse(path, "unreadable") }
    if let reason = seen.refusal { return refuse(path, reason) }
    beforeOpening(path)
    if seen.isDirectory {
      guard depth < Self.maximumDepth else { return refuse(path, "too_deep") }
      guard let inner = open(name, of: source, seen: seen, flags: O_DIRECTORY, path: path) else { return }
      try walk(inner, path: path, into: TargetDirectory(name, beneath: target), depth: depth + 1)
    } else {
      guard seen.st_size <= maximumBytes - bytes else { return refuse(path, "too_large") }
      guard let file = open(name, of: source, seen: seen, flags: 0, path: path) else { return }
      try copy(file, seen: seen, name: name, path: path, into: target)
    }
  }

  /// Nil, and the entry listed, when it cannot be opened or is not what was seen.
  private mutating func open(
    _ name: FileName, of source: Descriptor, seen: stat, flags: Int32, path: [UInt8]
  ) -> Descriptor? {
    do {
      let handle = try source.open(beneath: name, flags | O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
      guard try handle.status().isSame(as: seen) else {
        refuse(path, "changed")
        return nil
      }
      return handle
    } catch {
      // A link or another mount where a moment ago there was none; anything else is the kernel's refusal to read.
      refuse(path, [ELOOP, EXDEV, ENOENT, ENOTDIR, ENXIO].contains(error.errno) ? "changed" : "unreadable")
      return nil
    }
  }

  private mutating func copy(
    _ file: Descriptor, seen: stat, name: FileName, path: [UInt8], into target: TargetDirectory
  ) throws(SandboxError) {
    let directory = try target.handle()
    let copy = try failing("collect", "cannot write to the approved directory") {
      try directory.open(beneath: name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
    }
    let search = screen?.begin()
    var holdsSecret = false
    let copied = try failing("collect", "cannot copy an artifact to the approved directory") {
      try file.copy(to: copy, maximum: Int64(seen.st_size)) {
        goesOn()
      } accepting: { bytes in
        holdsSecret = search?(bytes) ?? false
        return !holdsSecret
      }
    }
    guard end == nil else { return }
    guard let (size, digest) = copied, size == seen.st_size, let after = try? file.status(),
      after.isUnchanged(since: seen)
    else {
      try failing("collect", "cannot remove a refused copy") {
        try directory.removeTree(name)
      }
      return refuse(path, holdsSecret ? Self.secret : "changed")
    }
    try failing("collect", "cannot finish an artifact in the approved directory") {
      try copy.setMode(seen.publishedMode)
    }
    guard let shown = listed(path) else { return }
    bytes += size
    artifacts.append(Artifact(path: shown, bytes: size, sha256: digest))
  }

  private mutating func refuse(_ path: [UInt8], _ reason: String) {
    refused += 1
    guard refused <= Self.maximumRefused, let shown = listed(path) else { return }
    quarantined.append(Quarantined(path: shown, reason: reason))
  }
}

/// A directory of the copy, made when the first file in it is published: a tree of empty directories is no output.
private final class TargetDirectory {
  private let make: () throws(SandboxError) -> Descriptor
  private var made: Descriptor?

  init(_ make: @escaping () throws(SandboxError) -> Descriptor) {
    self.make = make
  }

  convenience init(_ name: FileName, beneath parent: TargetDirectory) {
    self.init { () throws(SandboxError) in
      let directory = try parent.handle()
      return try failing("collect", "cannot make a directory in the approved directory") {
        try directory.makeDirectory(name, mode: 0o755)
      }
    }
  }

  func handle() throws(SandboxError) -> Descriptor {
    if let made { return made }
    let handle = try make()
    made = handle
    return handle
  }
}

extension stat {
  /// Why an entry of an output tree is not even opened; nil for a directory and for a plain file with one link.
  fileprivate var refusal: String? {
    switch st_mode & S_IFMT {
    case S_IFDIR: nil
    case S_IFREG: st_nlink == 1 ? nil : "hardlink"
    case S_IFLNK: "symlink"
    case S_IFIFO: "fifo"
    case S_IFSOCK: "socket"
    case S_IFCHR, S_IFBLK: "device"
    default: "unreadable"
    }
  }

  /// The same inode with the same content, links and times.
  fileprivate func isUnchanged(since other: stat) -> Bool {
    isSame(as: other) && st_size == other.st_size && st_nlink == other.st_nlink
      && st_mtim.tv_sec == other.st_mtim.tv_sec && st_mtim.tv_nsec == other.st_mtim.tv_nsec
      && st_ctim.tv_sec == other.st_ctim.tv_sec && st_ctim.tv_nsec == other.st_ctim.tv_nsec
  }

  /// Readable by all, writable by the owner, executable when the job made it so; no other bit of the job's.
  fileprivate var publishedMode: mode_t { st_mode & S_IXUSR != 0 ? 0o755 : 0o644 }
}
