import CLinux
import EventThread
import Glibc
import Kernel
import WardenProtocol

/// The warden that was spawned: its process and our end of the control socket. Belongs to one thread.
struct WardenProcess {
  /// What reading the control socket gave.
  enum Reading {
    case nothing
    case reply(WardenReply, [Descriptor])
    /// The warden is gone or speaks nonsense, and why.
    case over(String)
  }

  let process: pid_t
  /// Non-blocking; nil once it is closed, which tells the warden to kill everything and leave.
  private(set) var socket: PacketSocket?
  /// What the socket's buffer did not take yet, in order.
  private var unsent: [(bytes: [UInt8], descriptors: [Descriptor])] = []

  init(process: pid_t, socket: PacketSocket) {
    self.process = process
    self.socket = socket
  }

  var hasUnsent: Bool { !unsent.isEmpty }

  /// Sends the request, or keeps it until the socket takes it.
  /// - Parameter request: an encoded `WardenRequest`.
  mutating func send(_ request: [UInt8], _ descriptors: [Descriptor]) throws(SystemError) {
    unsent.append((request, descriptors))
    try sendUnsent()
  }

  mutating func sendUnsent() throws(SystemError) {
    guard let socket else { throw SystemError("send to the warden", errno: EPIPE) }
    while let next = unsent.first {
      do {
        try socket.send(next.bytes, descriptors: next.descriptors)
      } catch  where error.errno == EAGAIN {
        return
      }
      unsent.removeFirst()
    }
  }

  func read() -> Reading {
    guard let socket else { return .over("its control socket is closed") }
    do {
      guard let message = try socket.receive(limit: Bounds.message) else {
        return .over("it closed its control socket")
      }
      return .reply(try WardenReply(decoding: message.bytes), message.descriptors)
    } catch let error as SystemError where error.errno == EAGAIN {
      return .nothing
    } catch {
      return .over("\(error)")
    }
  }

  mutating func closeSocket() {
    socket = nil
    unsent = []
  }

  /// True once the process is gone and its status was taken.
  func reap() -> Bool {
    var status: Int32 = 0
    let result = waitpid(process, &status, WNOHANG)
    return result == process || (result < 0 && errno == ECHILD)
  }

  func kill() { _ = Glibc.kill(process, SIGKILL) }
}

/// Spawns the warden and waits for its first word, on the thread that will serve it later: both block.
actor WardenLauncher {
  /// Number of the control socket in the warden.
  private static let controlDescriptor: Int32 = 3
  /// The warden looks at the host, makes its own cgroup and compiles a filter; that is a matter of milliseconds.
  private static let patience = Duration.seconds(30)
  private static let farewell = Duration.seconds(5)
  private static let pollMilliseconds: Int32 = 100

  nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
  private nonisolated let thread: EventThread

  init(thread: EventThread) {
    self.thread = thread
  }

  func launch(_ configuration: SandboxConfiguration) throws(SandboxError) -> sending (WardenProcess, WardenFacts) {
    var warden = try spawn(configuration)
    do throws(SandboxError) {
      return (warden, try greeting(of: warden))
    } catch {
      // The end of its control socket tells a warden that did start to leave.
      warden.closeSocket()
      let deadline = ContinuousClock.now + Self.farewell
      while !warden.reap() {
        if ContinuousClock.now > deadline { warden.kill() }
        usleep(1_000)
      }
      throw error
    }
  }

  private func greeting(of warden: WardenProcess) throws(SandboxError) -> WardenFacts {
    let deadline = ContinuousClock.now + Self.patience
    while ContinuousClock.now < deadline {
      var polled = pollfd(fd: warden.socket?.descriptor.raw ?? -1, events: Int16(POLLIN), revents: 0)
      guard poll(&polled, 1, Self.pollMilliseconds) > 0 else { continue }
      switch warden.read() {
      case .nothing: continue
      case .reply(.hello(let facts), _): return facts
      case .reply(.cannot(let refusal), _): throw SandboxError(refusal, stage: "host")
      case .reply:
        throw SandboxError(
          stage: "spawn", message: "cordon-warden did not greet", fix: "install cordon and cordon-warden of one build")
      case .over(let why):
        throw SandboxError(
          stage: "spawn", message: "cordon-warden ended before it greeted: \(why)", fix: "see what it wrote to its log")
      }
    }
    throw SandboxError(stage: "spawn", message: "cordon-warden did not answer within \(Self.patience)")
  }

  private func spawn(_ configuration: SandboxConfiguration) throws(SandboxError) -> WardenProcess {
    let (ours, its) = try failing("spawn", "cannot make the control socket") {
      let pair = try PacketSocket.pair()
      try pair.0.descriptor.setNonBlocking()
      return pair
    }
    let log = try failing("spawn", "cannot open the warden's log") {
      try configuration.wardenLog.map {
        try Descriptor.open($0, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, mode: 0o600)
      }
    }

    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // dup2 clears close-on-exec, also onto the same number.
    posix_spawn_file_actions_adddup2(&actions, its.descriptor.raw, Self.controlDescriptor)
    posix_spawn_file_actions_adddup2(&actions, log?.raw ?? STDERR_FILENO, STDERR_FILENO)
    posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO)
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)

    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var signals = sigset_t()
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    sigfillset(&signals)
    posix_spawnattr_setsigdefault(&attributes, &signals)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

    var arguments = [
      configuration.wardenPath, "--staging", configuration.stagingDirectory, "--outputs",
      configuration.outputsDirectory,
      "--pool", "\(configuration.pool)",
    ]
    if let base = configuration.cgroupBase { arguments += ["--cgroup-base", base] }
    var process = pid_t()
    // Whatever a library of the worker opened without close-on-exec must not reach the warden.
    _ = cordon_cloexec_range(UInt32(Self.controlDescriptor), UInt32.max)
    let status = withCStrings(arguments) { arguments in
      withCStrings(Self.environment) {
        posix_spawn(&process, configuration.wardenPath, &actions, &attributes, arguments, $0)
      }
    }
    withExtendedLifetime((its, log)) {}
    guard status == 0 else {
      throw SandboxError(
        stage: "spawn", message: "cannot start \(configuration.wardenPath)", errno: status,
        fix: "install cordon-warden beside cordon")
    }
    return WardenProcess(process: process, socket: ours)
  }

  /// Nothing of the worker's environment: the database password may be in it.
  private static var environment: [String] {
    var environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
    if let runtime = getenv("XDG_RUNTIME_DIR") { environment.append("XDG_RUNTIME_DIR=" + String(cString: runtime)) }
    return environment
  }
}

private func withCStrings<Value>(
  _ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Value
) -> Value {
  let pointers = strings.map { strdup($0) }
  defer { for pointer in pointers { free(pointer) } }
  return body(pointers + [nil])
}
