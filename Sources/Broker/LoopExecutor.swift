import NIOCore

/// Runs a connection's task on the event loop of its wires.
///
/// What the task waits for are reads, writes and clocks of that loop. On threads of its own it would be woken for each of them by the
/// kernel, which takes longer than what it then does. So nothing that blocks may be called in such a task; who asks a provider or a
/// resolver, which may block, does so in a task of its own (`Deadline`).
final class LoopExecutor: TaskExecutor {
  private let loop: any EventLoop

  init(_ loop: any EventLoop) { self.loop = loop }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    loop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
  }
}
