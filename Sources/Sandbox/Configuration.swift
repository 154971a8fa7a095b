import Glibc
import Jobs
import Kernel
import WardenProtocol

/// Where the sandbox finds its parts on this host.
public struct SandboxConfiguration: Sendable {
  /// The executable `cordon-warden`.
  public var wardenPath: String
  /// Attempts are staged beneath it; made when missing, readable by its owner only.
  public var stateDirectory: String
  /// Artifacts are published beneath it; made (0750) when missing, otherwise its mode is the operator's.
  public var approvedRoot: String
  /// File the warden's diagnostics are appended to; nil leaves them on our own stderr.
  public var wardenLog: String?
  /// The cgroup that was delegated to us, as a path beneath each hierarchy's root; nil leaves the choice to the
  /// warden (`cordon` as root, the group it is in otherwise).
  public var cgroupBase: String?
  /// Unused cells that may wait at most, built for the next job of a shape that was asked for lately; 0: none.
  public var pool: Int
  /// What the warden may need beyond a cell's own time to build it and to take it down, and to leave when it is
  /// told to. A warden that takes longer hangs: it is killed, and with it every cell.
  var wardenPatience = Duration.seconds(60)

  public init(
    wardenPath: String, stateDirectory: String, approvedRoot: String, wardenLog: String? = nil,
    cgroupBase: String? = nil, pool: Int = SandboxConfiguration.defaultPool
  ) {
    self.pool = pool
    self.wardenPath = wardenPath
    self.stateDirectory = stateDirectory
    self.approvedRoot = approvedRoot
    self.wardenLog = wardenLog
    self.cgroupBase = cgroupBase
  }

  /// As many as a small worker runs at once.
  public static let defaultPool = 4

  var stagingDirectory: String { stateDirectory + "/stages" }
  /// On whose filesystem outputs lie that a policy puts on a disk; it stays empty, for those files have no name.
  var outputsDirectory: String { stateDirectory + "/outputs" }

  /// Makes the directories, removes what dead workers left in them, and returns the staging directory.
  func prepareDirectories() throws(SandboxError) -> Descriptor {
    for path in [stateDirectory, approvedRoot] where !path.hasPrefix("/") {
      throw SandboxError(stage: "spawn", message: "\"\(path)\" is no absolute path")
    }
    return try failing("spawn", "cannot make the state and approved directories") {
      try makeDirectories(approvedRoot, mode: OutputPlace.mode, parents: 0o755)
      try makeDirectories(stateDirectory, mode: 0o700)
      try makeDirectories(stagingDirectory, mode: 0o700)
      try makeDirectories(outputsDirectory, mode: 0o700)
      let staging = try Descriptor.directory(stagingDirectory)
      LockedDirectory.sweep(staging)
      Outputs.removeStalePending(approvedRoot: approvedRoot)
      return staging
    }
  }
}

/// One statement about what this host enforces.
public struct Finding: Sendable, Equatable {
  /// The control: `capabilities`, `network`, `cgroup.memory`, ….
  public var control: String
  /// Whether it is in force.
  public var holds: Bool
  /// What was seen.
  public var detail: String
  /// What an operator can do where it does not hold.
  public var fix: String?
  /// False for what only jobs need whose policy asks for it: a worker serves without it.
  public var isRequired = true

  public init(control: String, holds: Bool, detail: String, fix: String? = nil) {
    self.control = control
    self.holds = holds
    self.detail = detail
    self.fix = fix
  }
}

/// What the warden found out about the host and enforces for every cell.
public struct SandboxFacts: Sendable, Equatable {
  /// `v2` or `hybrid`.
  public var cgroup: String
  /// Namespaces every cell gets, by the kernel's names.
  public var namespaces: [String]
  /// Digest of the seccomp program of every job.
  public var filter: Digest
  /// Of every job that has a network.
  public var networkFilter: Digest
  /// Version of the kernel's Landlock that every job is under; 0 where there is none.
  public var landlock: Int
  /// `root`, or `user_namespace` where the warden is an ordinary user.
  public var mode: String
  /// Controls this host does not give; none of them holds. Empty means that nothing is missing.
  public var missing: [Finding]
  /// Whether outputs can lie on a disk here, which only jobs need whose policy says so.
  public var diskOutputs: Finding
  /// The warden itself.
  public var wardenProcessID: Int32

  init(_ facts: WardenFacts) {
    cgroup =
      switch facts.cgroup {
      case .unified: "v2"
      case .hybrid: "hybrid"
      }
    mode =
      switch facts.mode {
      case .root: "root"
      case .userNamespace: "user_namespace"
      }
    namespaces = facts.namespaces
    filter = sha256(facts.filter)
    networkFilter = sha256(facts.networkFilter)
    landlock = Int(facts.landlock)
    missing = facts.missing.map(Finding.init)
    diskOutputs =
      facts.diskOutputs.map(Finding.init)
      ?? Finding(
        control: PolicyTerms.diskOffer, holds: true, detail: "ext4 in a preallocated file, through a loop device")
    diskOutputs.isRequired = false
    wardenProcessID = facts.processID
  }
}

extension Finding {
  init(_ refusal: Refusal) {
    let error = SandboxError(refusal)
    self.init(control: refusal.control, holds: false, detail: error.cause, fix: error.fix)
  }
}

extension SandboxError {
  /// The warden's refusal of an order. Parts of an order are the requester's, the program is the job's; every other
  /// control is named in the message.
  init(_ refusal: Refusal, stage: String = "cell") {
    let isOrder = refusal.control.hasPrefix("order.")
    let stage = isOrder ? "request" : refusal.control == "exec" ? "exec" : stage
    self.init(
      stage: stage, message: isOrder || stage == "exec" ? refusal.stage : "\(refusal.control): \(refusal.stage)",
      errno: refusal.errno == 0 ? nil : refusal.errno, fix: refusal.fix.isEmpty ? nil : refusal.fix)
  }
}
