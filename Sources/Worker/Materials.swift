import Credentials
import Glibc
import Jobs
import Sandbox
import Store

/// The files of one attempt as they were staged, with their digests, and the command that uses them.
struct Materials: Sendable {
  /// Nil: there are no files.
  private let stage: Stage?
  private let command: CellCommand
  private let stdin: [UInt8]?
  private let runtime: Runtime
  /// What the job's policy says about the cell.
  let terms: PolicyTerms
  /// Names of the grants that the cell has.
  let grants: [String]
  private(set) var code: Digest?
  private(set) var inputs: [InputFacts] = []

  /// Whether there are any files: a program of the host's without parameters and inputs has none, and needs no directory.
  static func areStaged(_ claim: Claim, _ specification: JobSpecification) -> Bool {
    specification.runtime != .exec || claim.paramsText != nil || !specification.inputs.isEmpty
      || !specification.grants.isEmpty
  }

  /// Writes program, parameters and inputs into the stage.
  /// - Parameter stage: nil where `areStaged` is false.
  /// - Throws: `Refusal` for what the job asked and cannot have; other errors are the worker's own.
  init(
    claim: Claim, specification: JobSpecification, terms: PolicyTerms, stage: Stage?, egress: AttemptEgress?,
    login: UserPassword?, run: AttemptRun
  ) async throws {
    self.stage = stage
    self.terms = terms
    grants = egress?.plan.grantNames ?? []
    var command = CellCommand(
      specification, job: claim.job.description, attempt: claim.attempt, tenant: claim.tenant, queue: claim.queue)
    try command.resolveProgram { access($0, X_OK) == 0 }
    if egress != nil { command.addNetwork(proxy: EgressPlan.proxy) }
    if let login {
      command.addLogin(user: login.user, password: login.password.withBytes { String(decoding: $0, as: UTF8.self) })
    }
    self.command = command
    runtime = specification.runtime
    stdin = specification.stdin.map { Array($0.utf8) }

    if command.program == nil {
      // There is no program file: the digest covers the exact command.
      code = sha256(specification.argv.map { Array($0.utf8) + [0] }.flatMap { $0 })
    }
    // The database judged the same when it gave the job out. Should it not have, no such byte is read here.
    if let objection = terms.objection(to: specification) { throw Refusal(objection) }
    guard let stage else { return }
    if let egress {
      let certificates = try run.egress.certificates(egress.inspection)
      try await onBlockingThread {
        try stage.writeNames(egress.plan.names)
        _ = try stage.writeJobFile(name: CellCommand.CellPath.certificates, bytes: certificates, executable: false)
      }
    }
    if let program = command.program {
      guard let source = specification.code else { throw Refusal("code: missing") }
      let bytes = try await Self.bytes(of: source, field: "code", stage: stage, run: run)
      code = try await onBlockingThread { try stage.writeJobFile(name: program, bytes: bytes, executable: false) }
    }
    if let params = claim.paramsText {
      // The database's own text: numbers keep every digit.
      _ = try stage.writeJobFile(
        name: CellCommand.CellPath.parameters, bytes: Array(params.utf8), executable: false)
    }
    for (name, source) in specification.inputs.sorted(by: { $0.key < $1.key }) {
      let field = "inputs.\(name)"
      switch source {
      case .path(let path):
        inputs.append(try await Self.copy(path, as: name, field: field, stage: stage, run: run))
      case .artifact(let artifact):
        inputs.append(
          try await Made.of(artifact: artifact, field: field, run: run).copy(as: name, field: field, stage: stage))
      case .text, .blob, .result:
        let bytes = try await Self.bytes(of: source, field: field, stage: stage, run: run)
        inputs.append(try await onBlockingThread { try stage.writeInput(name: name, bytes: bytes) })
      }
    }
  }

  /// What was fetched into the stage for the job.
  mutating func add(_ fetched: [InputFacts]) { inputs += fetched }

  func request(limits: Limits, network: RequestedNetwork?) -> CellRequest {
    CellRequest(
      stage: stage, argv: command.argv,
      environment: command.environment.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }, limits: limits,
      stdin: stdin, warm: terms.warm[runtime].map(WarmRuntime.init), outputs: terms.outputs,
      isTemporaryExecutable: terms.isTemporaryExecutable, network: network)
  }

  /// A report of an attempt whose cell never ran.
  func report(_ outcome: Outcome, reason: String? = nil) -> AttemptReport {
    AttemptReport(outcome: outcome, reason: reason, code: code, inputs: inputs)
  }

  private static func copy(
    _ path: String, as name: String, field: String, stage: Stage, run: AttemptRun
  ) async throws -> InputFacts {
    let root = try inputRoot(run, field: field)
    return try await namingInput(field) { try stage.copyInput(name: name, root: root, path: path) }
  }

  private static func bytes(
    of source: Source, field: String, stage: Stage, run: AttemptRun
  ) async throws -> [UInt8] {
    switch source {
    case .text(let text):
      return Array(text.utf8)
    case .blob(let digest):
      let bytes = try await run.insist {
        try await run.store.readBlob(worker: run.worker, claim: run.claim, digest: digest)
      }
      guard sha256(bytes) == digest else { throw Refusal("\(field): the stored bytes do not have \(digest)") }
      return bytes
    case .path(let path):
      let root = try inputRoot(run, field: field)
      return try await namingInput(field) { try Stage.readBeneath(root: root, path: path) }
    case .result(let parent):
      return try await Made.result(of: parent, field: field, run: run)
    case .artifact(let artifact):
      return try await Made.of(artifact: artifact, field: field, run: run).bytes(field: field)
    }
  }

  private static func inputRoot(_ run: AttemptRun, field: String) throws -> String {
    guard let root = run.configuration.inputRoot else {
      throw Refusal("\(field): this worker has no input root (cordon worker --input-root DIR)")
    }
    return root
  }

  /// What is wrong with the file a job named is the job's refusal; a disk of ours that is full or failing is not.
  static func namingInput<Value: Sendable>(
    _ field: String, _ work: @escaping @Sendable () throws -> Value
  ) async throws -> Value {
    do {
      return try await onBlockingThread(work)
    } catch let error as SandboxError where error.errno.map(faultsOfTheName.contains) ?? true {
      throw Refusal("\(field): \(error)")
    }
  }

  private static let faultsOfTheName: Set<Int32> = [
    ENOENT, ENOTDIR, EACCES, EPERM, ELOOP, EXDEV, EFBIG, EISDIR, ENAMETOOLONG, EINVAL, EAGAIN,
  ]
}

extension WarmRuntime {
  fileprivate init(_ terms: PolicyTerms.Warm) {
    self =
      switch terms.mode {
      case .interpreter: .python(imports: terms.imports)
      case .zygote: .forkedPython(imports: terms.imports)
      }
  }
}
