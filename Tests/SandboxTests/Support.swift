import Glibc
import Jobs
import Kernel
import Testing

@testable import Sandbox

/// A directory that is removed when the test is over.
final class Scratch: Sendable {
  let path: String

  init() throws {
    var template = Array("/tmp/cordon-test-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp", errno: errno) }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    chmod(path, 0o755)
  }

  deinit {
    let name = path.split(separator: "/").last.map { FileName($0.utf8) }
    if let name { try? Descriptor.directory("/tmp").removeTree(name) }
  }

  func directory(_ name: String) throws -> String {
    try makeDirectories("\(path)/\(name)", mode: 0o755)
    return "\(path)/\(name)"
  }

  @discardableResult
  func file(_ name: String, _ text: String = "", mode: mode_t = 0o644) throws -> String {
    let file = try Descriptor.open("\(path)/\(name)", O_WRONLY | O_CREAT | O_TRUNC, mode: mode)
    try file.writeAll(Array(text.utf8))
    try file.setMode(mode)
    return "\(path)/\(name)"
  }
}

func readFile(_ path: String) throws -> String {
  String(decoding: try Descriptor.open(path).readAll(limit: 64 << 20), as: UTF8.self)
}

func exists(_ path: String) -> Bool {
  var status = stat()
  return lstat(path, &status) == 0
}

func names(in path: String) throws -> [String] {
  try Descriptor.directory(path).names(maximum: 100_000).map { String(decoding: $0, as: UTF8.self) }
}

/// Mounts a tmpfs for the time of `body`.
func withSmallFilesystem(at path: String, bytes: Int, _ body: () throws -> Void) throws {
  try SystemError.check(mount("tmpfs", path, "tmpfs", 0, "size=\(bytes)"), "mount tmpfs")
  defer { umount2(path, Int32(MNT_DETACH)) }
  try body()
}

/// The warden of the build that is tested, beside the test bundle.
let wardenPath: String = {
  var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
  let count = buffer.withUnsafeMutableBytes { readlink("/proc/self/exe", $0.baseAddress!, $0.count) }
  let directories = [String(decoding: buffer[..<max(0, count)], as: UTF8.self)] + CommandLine.arguments
  for path in directories where path.contains("/") {
    let candidate = path.split(separator: "/").dropLast().map { "/" + $0 }.joined() + "/cordon-warden"
    if access(candidate, X_OK) == 0 { return candidate }
  }
  return "/nonexistent/cordon-warden was not built beside \(CommandLine.arguments[0])"
}()

/// One sandbox with its directories.
struct Bench: Sendable {
  let sandbox: Sandbox
  let scratch: Scratch
  let approvedRoot: String

  static func configuration(_ scratch: Scratch) -> SandboxConfiguration {
    SandboxConfiguration(
      wardenPath: wardenPath, stateDirectory: scratch.path + "/state", approvedRoot: scratch.path + "/approved",
      // ops/sanitize names one file for all of them and looks for reports in it.
      wardenLog: getenv("CORDON_TEST_WARDEN_LOG").map { String(cString: $0) } ?? scratch.path + "/warden.log")
  }

  /// A finished cell with what it wrote.
  struct Ran: Sendable {
    var report: CellReport
    var stdout: String
    var stderr: String
    var outcome: Outcome { report.facts.outcome }
  }

  func start(
    _ argv: [String], limits: Limits = Limits(wallMilliseconds: 60_000), stdin: [UInt8]? = nil,
    outputs: OutputStorage = .memory, isTemporaryExecutable: Bool = true,
    environment: [(String, String)] = [("PATH", "/usr/bin:/usr/sbin"), ("LC_ALL", "C"), ("HOME", "/tmp")],
    prepare: (Stage) throws -> Void = { _ in }
  ) async throws -> (RunningCell, Stage) {
    let stage = try sandbox.stage()
    try prepare(stage)
    do {
      let request = CellRequest(
        stage: stage, argv: argv, environment: environment, limits: limits, stdin: stdin, outputs: outputs,
        isTemporaryExecutable: isTemporaryExecutable)
      return (try await sandbox.run(request), stage)
    } catch {
      stage.remove()
      throw error
    }
  }

  func finish(_ cell: RunningCell) async throws -> Ran {
    var (stdout, stderr): ([UInt8], [UInt8]) = ([], [])
    for await chunk in cell.output {
      if chunk.stream == "stdout" { stdout += chunk.bytes } else { stderr += chunk.bytes }
    }
    return Ran(
      report: try await cell.report(), stdout: String(decoding: stdout, as: UTF8.self),
      stderr: String(decoding: stderr, as: UTF8.self))
  }

  func run(
    _ argv: [String], limits: Limits = Limits(wallMilliseconds: 60_000), stdin: [UInt8]? = nil,
    outputs: OutputStorage = .memory, prepare: (Stage) throws -> Void = { _ in }
  ) async throws -> Ran {
    let (cell, stage) = try await start(argv, limits: limits, stdin: stdin, outputs: outputs, prepare: prepare)
    defer { stage.remove() }
    return try await finish(cell)
  }

  func bash(
    _ script: String, limits: Limits = Limits(wallMilliseconds: 60_000), outputs: OutputStorage = .memory
  ) async throws -> Ran {
    try await run(["/usr/bin/bash", "-c", script], limits: limits, outputs: outputs)
  }

  func python(
    _ program: String, limits: Limits = Limits(wallMilliseconds: 60_000), outputs: OutputStorage = .memory
  ) async throws -> Ran {
    try await run(["/usr/bin/python3", "-I", "-c", program], limits: limits, outputs: outputs)
  }
}

/// Starts a sandbox with the real warden and ends it again.
func withBench(_ body: (Bench) async throws -> Void) async throws {
  let scratch = try Scratch()
  let sandbox = try await Sandbox.start(Bench.configuration(scratch))
  do {
    try await body(Bench(sandbox: sandbox, scratch: scratch, approvedRoot: scratch.path + "/approved"))
  } catch {
    await sandbox.shutdown()
    throw error
  }
  await sandbox.shutdown()
}

/// Polls until it is so; for what the kernel does in its own time. False after the patience.
func eventually(_ patience: Duration = .seconds(30), _ condition: () throws -> Bool) async rethrows -> Bool {
  let deadline = ContinuousClock.now + patience
  while ContinuousClock.now < deadline {
    if try condition() { return true }
    try? await Task.sleep(for: .milliseconds(20))
  }
  return try condition()
}

/// Host pids whose real uid is `uid`.
func processes(of uid: UInt32) throws -> [String] {
  try names(in: "/proc").filter { name in
    guard Int32(name) != nil, let status = try? readFile("/proc/\(name)/status") else { return false }
    return status.contains("\nUid:\t\(uid)\t")
  }
}

/// Directories beneath all cgroup hierarchies whose path names the warden's process, or that hold it.
func groups(of warden: Int32) throws -> [String] {
  func walk(_ path: String, _ depth: Int) -> [String] {
    guard depth < 6, let directory = try? Descriptor.directory(path),
      let inner = try? directory.names(maximum: 10_000)
    else { return [] }
    return inner.flatMap { name -> [String] in
      guard (try? directory.status(of: name))?.isDirectory == true else { return [] }
      let child = path + "/" + String(decoding: name, as: UTF8.self)
      return [child] + walk(child, depth + 1)
    }
  }
  return walk("/sys/fs/cgroup", 0).filter { $0.contains("-\(warden)-") }
}
