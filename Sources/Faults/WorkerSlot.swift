import Foundation

/// One worker of the fleet, and what supervises it as a service manager would: where it has ended, another is started.
actor WorkerSlot {
  let number: Int
  private let executable: String
  private let arguments: [String]
  private let network: NetworkNamespace
  private let log: String
  private var process: StartedProcess?
  /// What the next start finds in its environment on top.
  private var disguise: [String: String] = [:]
  private var isWanted = true
  /// Exit codes of those that were not killed.
  private(set) var ends: [Int32: Int] = [:]

  init(number: Int, executable: String, arguments: [String], network: NetworkNamespace, log: String) {
    self.number = number
    self.executable = executable
    self.arguments = arguments
    self.network = network
    self.log = log
  }

  /// Sees to it that a worker runs until `close`.
  func supervise() async {
    while isWanted {
      if let process, !process.isRunning {
        if process.end != 128 + SIGKILL { ends[process.end, default: 0] += 1 }
        self.process = nil
      }
      if process == nil {
        // A crash says where it was, in the log.
        let usual = ["PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "SWIFT_BACKTRACE": "enable=yes,color=no"]
        let environment = usual.merging(disguise) { _, given in given }
        process = try? StartedProcess(executable, arguments, environment: environment, in: network, log: log)
      }
      try? await Task.sleep(for: .milliseconds(100))
    }
  }

  func signal(_ number: Int32) { process?.signal(number) }

  /// Signals the warden of the worker that runs now; returns it, so that the same one is meant later.
  func signalWarden(_ number: Int32) -> pid_t? {
    guard let warden = process?.children(named: "cordon-warden").first else { return nil }
    kill(warden, number)
    return warden
  }

  /// Whether that process is still the warden of the worker that runs now.
  func isWarden(_ id: pid_t) -> Bool { process?.children(named: "cordon-warden").contains(id) ?? false }

  /// Kills the worker; the next one finds `environment` on top of its own.
  func restart(with environment: [String: String]) {
    disguise = environment
    process?.signal(SIGKILL)
  }

  /// Asks the worker to leave, and insists when it does not. Returns its exit code; nil when it had to be killed.
  func close(within limit: Duration) async -> Int32? {
    isWanted = false
    guard let process else { return 0 }
    process.signal(SIGCONT)
    process.signal(SIGTERM)
    let end = ContinuousClock.now + limit
    while process.isRunning, .now < end { try? await Task.sleep(for: .milliseconds(50)) }
    if !process.isRunning { return process.end }
    process.signal(SIGKILL)
    while process.isRunning { try? await Task.sleep(for: .milliseconds(20)) }
    return nil
  }
}
