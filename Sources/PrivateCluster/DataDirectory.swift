import Glibc

// Theory of operation
//
// A cluster's directory holds `data` (the server's, 0700), `socket` (the server's, 0700, so that only root and the
// server's user get in, which is why `trust` is safe on it), `lock` (held while somebody starts or stops it) and,
// where `socket` would make too long an address, `socket-directory`: the path of a short one beneath /tmp.
// The server is started by pg_ctl, which puts it into a session of its own; it is nobody's child and outlives
// the thread and the process that started it. Its settings are given on its command line, never written into
// `data`, which belongs to another user.

/// The files of one cluster and the programs that work on them. Everything here blocks.
struct DataDirectory {
  private static let socketName = ".s.PGSQL.5432"
  /// Bytes of a socket's path, without the NUL that ends it (sun_path in unix(7)).
  private static let longestSocketPath = 107
  private static let startSeconds = "60"
  private static let stopSeconds = "60"
  /// Room for a whole test process, whose suites run in parallel with pools of their own.
  private static let testConnections = 300
  /// pg_ctl's exit status for "no server running".
  private static let notRunning: Int32 = 3

  let root: String
  let account: Account

  var data: String { root + "/data" }
  private var ownSocket: String { root + "/socket" }
  private var socketRecord: String { root + "/socket-directory" }
  private var log: String { data + "/server.log" }

  init(_ directory: String) throws(ClusterError) {
    account = try Account.resolve()
    var path = directory
    if !path.hasPrefix("/") {
      guard let current = getcwd(nil, 0) else { throw Self.failure("getcwd", directory) }
      path = "\(String(cString: current))/\(directory)"
      free(current)
    }
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    // pg_ctl puts the path between double quotes on a shell's command line.
    guard path.utf8.allSatisfy({ $0 >= 0x20 && !"\"\\$`".utf8.contains($0) }) else {
      throw ClusterError(
        "directory", "the path holds a quote, backslash, dollar sign, backtick or control character",
        fix: "choose another directory")
    }
    root = path
  }

  /// Starts the server, making the cluster first where there is none. Returns its socket directory and whether it
  /// was running before.
  ///
  /// - Parameter settings: further `name=value` of its command line.
  func start(
    durable: Bool, settings: [String] = []
  ) throws(ClusterError) -> (socketDirectory: String, wasRunning: Bool) {
    try makeParents()
    let lock = try holdLock()
    defer { close(lock) }
    try makeServerDirectory(data)
    try requireReach()
    let binaries = try Binaries.find(version: try recordedVersion())
    if try recordedVersion() == nil { try initialise(binaries, durable: durable) }
    if try isRunning(binaries) { return (try runningSocket(), true) }
    let socket = try prepareSocketDirectory()
    var options = [
      "listen_addresses=", "unix_socket_directories=\(socket)", "unix_socket_permissions=0700", "port=5432",
    ]
    if !durable {
      options += ["fsync=off", "full_page_writes=off", "synchronous_commit=off"]
      options += ["max_connections=\(Self.testConnections)"]
    }
    options += settings
    let outcome = try asServer(
      [binaries.pgCtl, "start", "-w", "-s", "-t", Self.startSeconds, "-D", data, "-l", log, "-o"]
        + [options.map { "-c \($0)" }.joined(separator: " ")])
    guard outcome.status == 0 else {
      throw ClusterError("start", "\(outcome.reason); \(lastLogLine())", fix: "see \(log)")
    }
    return (socket, false)
  }

  /// Fast shutdown: sessions are ended, everything is written out.
  func stop() throws(ClusterError) {
    let lock = try holdLock()
    defer { close(lock) }
    let binaries = try Binaries.find(version: try recordedVersion())
    guard try isRunning(binaries) else { return }
    let outcome = try asServer([binaries.pgCtl, "stop", "-m", "fast", "-w", "-s", "-t", Self.stopSeconds, "-D", data])
    guard outcome.status == 0 else { throw ClusterError("stop", outcome.reason, fix: "see \(log)") }
    if let short = recordedSocketDirectory() {
      rmdir(short)
      unlink(socketRecord)
    }
  }

  /// Ends the server at once, as a crash does; the next start recovers. Nothing happens where none runs.
  func crash() throws(ClusterError) {
    let lock = try holdLock()
    defer { close(lock) }
    let binaries = try Binaries.find(version: try recordedVersion())
    guard try isRunning(binaries) else { return }
    let outcome = try asServer(
      [binaries.pgCtl, "stop", "-m", "immediate", "-w", "-s", "-t", Self.stopSeconds, "-D", data])
    guard outcome.status == 0 else { throw ClusterError("stop", outcome.reason, fix: "see \(log)") }
  }

  /// Replaces what is there by a copy of the cluster behind a socket, set up to follow it. No server may run here.
  func copy(from socketDirectory: String) throws(ClusterError) {
    try makeParents()
    let lock = try holdLock()
    defer { close(lock) }
    let emptied = try Command(arguments: ["/usr/bin/rm", "-rf", "--", data]).run()
    guard emptied.status == 0 else { throw ClusterError("copy", emptied.reason) }
    try makeServerDirectory(data)
    try requireReach()
    let copied = try asServer(
      [try Binaries.find().directory + "/pg_basebackup", "-D", data, "-h", socketDirectory, "-p", "5432"]
        + ["-U", PrivateCluster.superuser, "--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"])
    guard copied.status == 0 else { throw ClusterError("copy", copied.reason) }
  }

  func promote() throws(ClusterError) {
    let lock = try holdLock()
    defer { close(lock) }
    let binaries = try Binaries.find(version: try recordedVersion())
    let outcome = try asServer([binaries.pgCtl, "promote", "-w", "-s", "-t", Self.startSeconds, "-D", data])
    guard outcome.status == 0 else { throw ClusterError("promote", outcome.reason, fix: "see \(log)") }
  }

  /// The command that ends the server at once, whatever runs in it; for a directory about to be removed.
  func immediateStop() throws(ClusterError) -> [String] {
    account.prefix + [try Binaries.find().pgCtl, "stop", "-m", "immediate", "-w", "-s", "-D", data]
  }

  // MARK: Server

  private func initialise(_ binaries: Binaries, durable: Bool) throws(ClusterError) {
    guard entries(of: data).isEmpty else {
      throw ClusterError("initdb", "\(data) is neither empty nor a PostgreSQL cluster", fix: "choose another directory")
    }
    var arguments = [binaries.initdb, "-D", data, "--username=postgres", "--auth=trust", "--encoding=UTF8"]
    arguments += ["--locale=C.UTF-8", "--data-checksums", "--no-instructions"]
    if !durable { arguments.append("--no-sync") }
    let outcome = try asServer(arguments)
    guard outcome.status == 0 else { throw ClusterError("initdb", outcome.reason) }
  }

  private func isRunning(_ binaries: Binaries) throws(ClusterError) -> Bool {
    let outcome = try asServer([binaries.pgCtl, "status", "-D", data])
    if outcome.status == 0 { return true }
    guard outcome.status == Self.notRunning else { throw ClusterError("start", outcome.reason) }
    return false
  }

  private func asServer(_ arguments: [String]) throws(ClusterError) -> Command.Outcome {
    try Command(arguments: account.prefix + arguments).run()
  }

  private func lastLogLine() -> String {
    Self.lines(of: log).last { $0.contains("FATAL") || $0.contains("ERROR") || $0.contains("PANIC") } ?? "see its log"
  }

  /// The major version of an existing cluster.
  private func recordedVersion() throws(ClusterError) -> String? {
    guard let version = Self.lines(of: data + "/PG_VERSION").first else { return nil }
    guard Int(version) != nil else { throw ClusterError("directory", "\(data)/PG_VERSION holds no version") }
    return version
  }

  // MARK: Directories

  private func makeParents() throws(ClusterError) {
    var path = ""
    for component in root.split(separator: "/") {
      path += "/\(component)"
      if mkdir(path, 0o755) != 0, errno != EEXIST { throw Self.failure("mkdir", path) }
    }
  }

  private func holdLock() throws(ClusterError) -> Int32 {
    let path = root + "/lock"
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw Self.failure("open", path) }
    while flock(descriptor, LOCK_EX) != 0 {
      guard errno == EINTR else {
        defer { close(descriptor) }
        throw Self.failure("flock", path)
      }
    }
    return descriptor
  }

  /// A directory only the server's user (and root) may enter. One that exists already must be that user's.
  private func makeServerDirectory(_ path: String) throws(ClusterError) {
    if mkdir(path, 0o700) == 0 {
      guard lchown(path, account.uid, account.gid) == 0 else { throw Self.failure("chown", path) }
      return
    }
    guard errno == EEXIST else { throw Self.failure("mkdir", path) }
    guard isServerDirectory(path) else {
      throw ClusterError(
        "directory", "\(path) exists and is no private directory of \(account.name)", fix: "choose another directory")
    }
  }

  private func isServerDirectory(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR && status.st_uid == account.uid
      && status.st_mode & 0o077 == 0
  }

  /// Asks the kernel as the server's user, then names the directory that is in the way.
  private func requireReach() throws(ClusterError) {
    guard try asServer(["/usr/bin/test", "-w", data]).status != 0 else { return }
    var path = ""
    for component in data.split(separator: "/") {
      path += "/\(component)"
      guard try asServer(["/usr/bin/test", "-x", path]).status != 0 else { continue }
      var status = stat()
      let mode = stat(path, &status) == 0 ? String(status.st_mode & 0o7777, radix: 8) : "unknown"
      throw ClusterError(
        "directory", "\(account.name) cannot enter \(path) (mode \(mode))",
        fix: "choose a directory it can reach, for example beneath /var/lib or /tmp, or chmod o+x \(path)")
    }
    throw ClusterError("directory", "\(account.name) cannot write to \(data)", fix: "choose another directory")
  }

  /// `socket` in our directory, or a short path where its address would be too long or needs quoting.
  private func prepareSocketDirectory() throws(ClusterError) -> String {
    let plain = ownSocket.utf8.allSatisfy { byte in
      (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
        || "/._-".utf8.contains(byte)
    }
    if plain, "\(ownSocket)/\(Self.socketName)".utf8.count <= Self.longestSocketPath {
      try makeServerDirectory(ownSocket)
      return ownSocket
    }
    if let recorded = recordedSocketDirectory() { return recorded }
    var template = Array("/tmp/cordon-pg-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw Self.failure("mkdtemp", "/tmp") }
    let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    guard lchown(path, account.uid, account.gid) == 0 else { throw Self.failure("chown", path) }
    let record = open(socketRecord, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o644)
    guard record >= 0 else { throw Self.failure("open", socketRecord) }
    defer { close(record) }
    guard write(record, path, path.utf8.count) == path.utf8.count else { throw Self.failure("write", socketRecord) }
    return path
  }

  private func recordedSocketDirectory() -> String? {
    Self.lines(of: socketRecord).first.flatMap { isServerDirectory($0) ? $0 : nil }
  }

  /// The fifth line of postmaster.pid is the socket directory of the running server.
  private func runningSocket() throws(ClusterError) -> String {
    let lines = Self.lines(of: data + "/postmaster.pid")
    guard lines.count > 4, lines[4].hasPrefix("/") else {
      throw ClusterError(
        "start", "a server runs on \(data) but names no socket directory", fix: "stop it and try again")
    }
    return lines[4]
  }

  private static func lines(of path: String) -> [String] {
    guard let file = fopen(path, "re") else { return [] }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 12)
    while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
      .map { String($0) }.dropLast(while: \.isEmpty)
  }

  private static func failure(_ call: String, _ path: String) -> ClusterError {
    ClusterError("directory", "\(call) \(path): \(String(cString: strerror(errno)))")
  }
}

extension Array {
  /// Without the elements at the end that satisfy `condition`.
  fileprivate func dropLast(while condition: (Element) -> Bool) -> [Element] {
    var kept = self
    while let last = kept.last, condition(last) { kept.removeLast() }
    return kept
  }
}
