import Foundation
import Glibc

extension Fleet {
  /// The worker stands still, and its cells go on: what it still believes when it wakes is out of date.
  func pause(_ worker: WorkerSlot, for length: Duration) async {
    await worker.signal(SIGSTOP)
    try? await Task.sleep(for: length)
    await worker.signal(SIGCONT)
  }

  /// The warden stands still: no cell begins and none is ended.
  func pauseWarden(of worker: WorkerSlot, for length: Duration) async {
    guard let warden = await worker.signalWarden(SIGSTOP) else { return }
    try? await Task.sleep(for: length)
    // Its worker may have died meanwhile; then it has to wake to see that. A warden that never slept is none the worse.
    guard let name = try? String(contentsOfFile: "/proc/\(warden)/comm", encoding: .utf8), name == "cordon-warden\n"
    else { return }
    kill(warden, SIGCONT)
  }
}
