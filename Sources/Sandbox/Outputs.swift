import Glibc
import Jobs
import Kernel

/// What a finished cell left behind, taken over into `<approved root>/.pending/<random>`, beside where it will be
/// published, so that publishing is one rename on one filesystem. Nothing of it counts before `publish`.
public struct Collected: Sendable {
  /// The files taken over, in the order of the walk (sorted by bytes within a directory).
  public let artifacts: [Artifact]
  /// The entries that were refused.
  public let quarantined: [Quarantined]
  /// What the job wrote to `CORDON_RESULT`; nil when it wrote nothing, or nothing usable.
  public let result: JSONValue?
  /// `result_invalid: …` when the job wrote something that is no result.
  public let resultProblem: String?
  /// `outputs_refused: …` when the whole tree was refused, because its names or the time it takes have no end: then
  /// there is no artifact, and `quarantined` ends in an entry that stands for the rest.
  public let outputsProblem: String?
  /// Bytes of all artifacts.
  public let outputBytes: Int64

  /// Nil where there was nothing to copy.
  fileprivate let pending: PendingDirectory?
  fileprivate let place: OutputPlace

  /// The path `publish` will return; nil when there is no artifact. For whoever must know it before the rename.
  public var destination: String? { artifacts.isEmpty ? nil : place.path }

  /// Publishes the artifacts by one rename and returns the directory's path; nil when there is no artifact.
  /// Throws `SandboxError` (stage `publish`); then nothing is published, and the copies are gone.
  public func publish() throws(SandboxError) -> String? {
    guard !artifacts.isEmpty, let pending else {
      discard()
      return nil
    }
    do {
      return try place.publish(pending)
    } catch {
      discard()
      throw error
    }
  }

  /// Removes the copies. Harmless after `publish`.
  public func discard() { pending?.remove() }
}

/// Taking over what jobs leave behind. Every function does file I/O and returns when it is done.
public enum Outputs {
  /// Copies the outputs of a finished cell and reads its result.
  ///
  /// Call it only with the report of a cell: that it exists means that the cell's cgroup is empty. Throws
  /// `SandboxError` (stage `collect`) when the copy cannot be made, or when `isCancelled`, which is asked before
  /// every entry and every 256 KiB, says so; then nothing is left of it.
  public static func collect(
    _ report: CellReport, approvedRoot: String, tenant: String, job: String, attempt: Int, limits: Limits,
    screen: OutputScreen? = nil, isCancelled: @escaping @Sendable () -> Bool = { false }
  ) throws(SandboxError) -> Collected {
    try collect(
      output: report.output, result: report.result, approvedRoot: approvedRoot, tenant: tenant, job: job,
      attempt: attempt,
      walk: OutputWalk(
        limits: limits, storage: report.isolation.outputs, screen: screen, isCancelled: isCancelled),
      resultBytes: limits.resultBytes)
  }

  static func collect(
    output: Descriptor, result: Descriptor, approvedRoot: String, tenant: String, job: String, attempt: Int,
    walk: OutputWalk, resultBytes: Int64
  ) throws(SandboxError) -> Collected {
    let place = try OutputPlace(approvedRoot: approvedRoot, tenant: tenant, job: job, attempt: attempt)
    var pending: PendingDirectory?
    do {
      var walk = walk
      try walk.collect(output) { () throws(SandboxError) in
        let made = try place.makePending()
        pending = made
        return made.directory.handle
      }
      if !walk.artifacts.isEmpty, let pending {
        try failing("collect", "cannot write the artifacts to the approved directory") {
          try pending.directory.handle.syncFilesystem()
        }
      }
      let document = ResultFile.read(beneath: result, maximumBytes: resultBytes)
      return Collected(
        artifacts: walk.artifacts, quarantined: walk.quarantined, result: document.value,
        resultProblem: document.problem, outputsProblem: walk.problem, outputBytes: walk.bytes, pending: pending,
        place: place)
    } catch {
      pending?.remove()
      throw error
    }
  }

  /// Removes a published directory whose attempt was not recorded after all: renamed out of sight first, then
  /// deleted. `path` is what `publish` returned. A directory that is gone already is fine.
  public static func withdraw(_ path: String) throws(SandboxError) {
    try OutputPlace(published: path)?.withdraw()
  }

  /// Removes what workers that are gone left half-collected beneath the approved root.
  public static func removeStalePending(approvedRoot: String) {
    guard let root = try? Descriptor.directory(approvedRoot),
      let pending = try? root.directory(OutputPlace.pendingName)
    else { return }
    LockedDirectory.sweep(pending)
  }
}

/// A copy that is not published yet.
struct PendingDirectory: Sendable {
  let parent: Descriptor
  let directory: LockedDirectory

  func remove() { try? parent.removeTree(directory.name) }
}

/// Where the artifacts of one attempt belong: `<approved root>/<tenant>/<job>/<attempt>`.
struct OutputPlace: Sendable {
  static let pendingName = FileName(".pending".utf8)
  /// Of the directories of tenants and jobs, and of the approved root where it has to be made: tenants are promised
  /// that nobody else on this host reads theirs, while an operator's group can be let in.
  static let mode: mode_t = 0o750

  private static let publishAttempts = 8

  private let rootPath: String
  private let root: Descriptor
  private let components: [FileName]

  init(approvedRoot: String, tenant: String, job: String, attempt: Int) throws(SandboxError) {
    rootPath = "/" + approvedRoot.split(separator: "/").joined(separator: "/")
    root = try failing(
      "collect", "cannot open the approved directory", fix: "make the directory that artifacts are published to"
    ) { try Descriptor.directory(approvedRoot) }
    components = [tenant, job, String(attempt)].map { FileName(EscapedName.component($0).utf8) }
    guard components.allSatisfy({ (1...Int(NAME_MAX)).contains($0.count) }) else {
      throw SandboxError(stage: "collect", message: "tenant \"\(tenant)\" does not fit a path component")
    }
  }

  /// Nil when the approved directory is gone; throws when the path is not one that `publish` returns.
  init?(published path: String) throws(SandboxError) {
    let parts = path.split(separator: "/", omittingEmptySubsequences: true)
    guard path.hasPrefix("/"), parts.count > 3, !parts.contains("."), !parts.contains("..") else {
      throw SandboxError(stage: "publish", message: "\"\(path)\" is no directory of published artifacts")
    }
    rootPath = "/" + parts.dropLast(3).joined(separator: "/")
    guard let root = try? Descriptor.directory(rootPath) else { return nil }
    self.root = root
    components = parts.suffix(3).map { FileName($0.utf8) }
  }

  func makePending() throws(SandboxError) -> PendingDirectory {
    try failing("collect", "cannot make a directory beneath the approved directory") {
      let parent = try directory(Self.pendingName, beneath: root, mode: 0o700)
      return PendingDirectory(parent: parent, directory: try LockedDirectory.make(beneath: parent, mode: 0o755))
    }
  }

  /// Where `publish` puts it.
  var path: String {
    ([rootPath == "/" ? "" : rootPath] + components.map { String(decoding: $0, as: UTF8.self) }).joined(separator: "/")
  }

  func publish(_ pending: PendingDirectory) throws(SandboxError) -> String {
    try failing("publish", "cannot publish to the approved directory") {
      for attempt in 1... {
        do {
          let tenant = try directory(components[0], beneath: root, mode: Self.mode)
          let job = try directory(components[1], beneath: tenant, mode: Self.mode)
          try pending.parent.rename(pending.directory.name, to: components[2], beneath: job)
          for changed in [job, tenant, root, pending.parent] { try changed.sync() }
          return
        } catch let error as SystemError where error.errno == ENOENT && attempt < Self.publishAttempts {
          // Somebody withdrew another attempt and took the directory away, empty as it was, before we were in it.
          continue
        }
      }
    }
    return path
  }

  func withdraw() throws(SandboxError) {
    try failing("publish", "cannot withdraw a published directory") {
      do {
        let tenant = try root.directory(components[0])
        let job = try tenant.directory(components[1])
        let parent = try directory(Self.pendingName, beneath: root, mode: 0o700)
        let name = randomName()
        try job.rename(components[2], to: name, beneath: parent)
        try job.sync()
        try parent.removeTree(name)
        // Only what is empty goes; other attempts of the job keep theirs.
        try? tenant.removeEmptyDirectory(components[1])
        try? root.removeEmptyDirectory(components[0])
      } catch let error as SystemError where error.errno == ENOENT {
        return
      }
    }
  }

  /// Opened, and made when missing: the operator's approval is of the root, and everything beneath is ours.
  private func directory(_ name: FileName, beneath parent: Descriptor, mode: mode_t) throws(SystemError) -> Descriptor {
    do {
      return try parent.makeDirectory(name, mode: mode)
    } catch  where error.errno == EEXIST {
      return try parent.directory(name)
    }
  }
}
