import Broker
import Credentials
import Destinations
import Glibc
import Jobs
import Logging
import Sandbox
import Store

// Theory of operation: what is fetched before a job runs
//
// A list of packages with the digests of their files is fetched in a cell of its own: the grants of phase `fetch` listen there, and
// the program is pip of this host with options of ours; no byte of the job's runs in it. Only wheels are taken, so nothing that comes
// is executed. What lies in the cell's /output afterwards is hostile all the same: each file is copied through one descriptor,
// digested on the way, and refused unless the list has its digest. The job's own cell then finds the files in /input, and has no
// listener for what they came from.
//
// Both cells are of one attempt: its ledger goes on from one to the other, and what the first took of its time the second has not.

extension AttemptRun {
  /// What a fetch came to.
  struct Fetched: Sendable {
    var inputs: [InputFacts]
    var seconds: Double
    var reached: EgressFacts
    /// The next session's ledger goes on here.
    var ledger: LedgerSummary?
  }

  /// - Throws: `Refusal` where the list is none, or what came is not what it says.
  func fetch(
    _ wanted: JobSpecification.Fetch, _ terms: PolicyTerms, _ credentials: AttemptCredentials?, into stage: Stage
  ) async throws -> Fetched {
    let list: LockedRequirements
    do { list = try LockedRequirements(wanted.pip) } catch { throw Refusal("fetch.pip: \(error)") }
    guard let plan = try EgressPlan(asked: [wanted.grant], offered: terms.grants, phase: .fetch),
      let grant = plan.grants.first
    else { throw Refusal("fetch.grant: \(wanted.grant) is not granted for fetching") }
    let egress = try await begin(plan, credentials)
    logger.info("fetching", metadata: ["packages": "\(list.packages.count)", "grant": "\(grant.name)"])
    let own = try sandbox.stage()
    defer { own.remove() }
    try own.writeNames(plan.names)
    _ = try own.writeJobFile(
      name: CellCommand.CellPath.certificates, bytes: try self.egress.certificates(egress.inspection), executable: false
    )
    _ = try own.writeJobFile(name: Self.listName, bytes: Array(list.text.utf8), executable: false)
    if let reason = await egressBegins(egress) { egress.cut(reason) }
    let ended: CellReport
    var words = PipWords()
    do {
      let cell = try await sandbox.run(
        CellRequest(
          stage: own, argv: try Self.pip(from: grant), environment: Self.environment, limits: claim.limits,
          network: egress.network()))
      egress.serves(cell, for: claim.limits.wallMilliseconds)
      if let reason = await cellStarted(cell) { cell.stop(reason) }
      for await chunk in cell.output { words.take(chunk, credentials?.search) }
      ended = try await cell.report()
    } catch {
      _ = await egress.finish()
      throw error
    }
    defer { ended.discardOutputs() }
    let reached = await egress.finish()
    if ended.facts.stopped == .abandoned { throw Stopped() }
    guard ended.facts.outcome == .succeeded else {
      throw Refusal("fetch: pip ended as \(ended.facts.outcome): \(words.last())")
    }
    let inputs: [InputFacts]
    do {
      inputs = try await onBlockingThread {
        try stage.takeFetched(ended.output, allowed: list.digests, mostFiles: LockedRequirements.most)
      }
    } catch let error as SandboxError where error.errno == nil || error.errno == EFBIG {
      // What came is at fault, and not a disk of ours.
      let reason = "fetch: \(error)"
      throw Refusal(credentials?.redact(reason) ?? reason)
    }
    if let credentials { try Self.refuseSecrets(inNamesOf: inputs, credentials.search?.redactor) }
    return Fetched(
      inputs: inputs, seconds: ended.wallSeconds, reached: reached, ledger: egress.summary)
  }

  /// The worker is told to stop, or the lease is gone.
  struct Stopped: Error {}

  /// The index chose the names, and the job can read them.
  static func refuseSecrets(inNamesOf inputs: [InputFacts], _ redactor: Redactor?) throws(Refusal) {
    guard let redactor else { return }
    for input in inputs where redactor.redact(input.name) != input.name {
      throw Refusal("fetch: the name of a file that came holds a credential: \(redactor.redact(input.name))")
    }
  }

  private static let listName = "requirements.txt"
  private static let environment = [
    ("PATH", CellCommand.searchPath), ("HOME", CellCommand.CellPath.temporary), ("LANG", "C.UTF-8"),
    ("PIP_CONFIG_FILE", "/dev/null"), ("PIP_CERT", "/job/ca.pem"), ("SSL_CERT_FILE", "/job/ca.pem"),
  ]

  /// Debian has pip as a package, or as a wheel beside venv.
  private static func pip(from grant: Grant) throws(Refusal) -> [String] {
    var command = ["/usr/bin/python3", "-I", "-B"]
    if access("/usr/lib/python3/dist-packages/pip/__main__.py", R_OK) == 0 {
      command += ["-m", "pip"]
    } else if let wheel = pipWheel() {
      command += ["/usr/share/python-wheels/\(wheel)/pip"]
    } else {
      throw Refusal("fetch: this host has no pip (fix: apt-get install python3-pip)")
    }
    let scheme = grant.mode == .http ? "http" : "https"
    let isUsual = grant.listenPort == (grant.mode == .http ? 80 : 443)
    let place = isUsual ? "\(grant.host)" : "\(grant.host):\(grant.listenPort)"
    return command + [
      "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir", "--no-deps",
      "--require-hashes", "--only-binary", ":all:", "--retries", "0", "--timeout", "20",
      "--index-url", "\(scheme)://\(place)/simple", "--trusted-host", "\(grant.host)",
      "--dest", CellCommand.CellPath.output, "--requirement", "/job/\(listName)",
    ]
  }

  private static func pipWheel() -> String? {
    guard let directory = opendir("/usr/share/python-wheels") else { return nil }
    defer { closedir(directory) }
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name.hasPrefix("pip-"), name.hasSuffix(".whl") { return name }
    }
    return nil
  }
}

/// The end of what pip says, for people; some of it is the index's.
struct PipWords {
  private var redacted = RedactedOutput()
  private var said: [UInt8] = []
  private static let longest = 16 << 10

  /// - Parameter search: looks for what must not be said, before anything is cut.
  mutating func take(_ chunk: OutputChunk, _ search: AttemptCredentials.Search?) {
    keep(redacted.push(chunk, search))
  }

  private mutating func keep(_ pieces: [OutputChunk]) {
    for piece in pieces { said += piece.bytes.prefix(Self.longest - said.count) }
  }

  /// The last line, once there is no more.
  mutating func last() -> String {
    keep(redacted.finish())
    let last = String(decoding: said, as: UTF8.self).split(whereSeparator: \.isNewline).last ?? ""
    return String(last.prefix(300))
  }
}
