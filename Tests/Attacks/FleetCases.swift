import Foundation
import Glibc
import Jobs
import Postgres
import TestKit

// These cases have a house of their own, because they stop, kill or starve its worker. The job that `Proving` runs for
// them on the common house does nothing; what they do beside it is in `expect`, with its control.

/// What happens to whoever supervises, and to what it relies on.
enum FleetCases {
  static let processes: [AttackCase] = [pr18, pr18b, pr19]
  static let operation: [AttackCase] = [op01, op02, op03, op05, op06, op09, op10]

  static func fleetCase(
    _ id: String, _ what: String, _ body: @escaping @Sendable (Place, inout Verdict) async throws -> Void
  ) -> AttackCase {
    AttackCase(
      id: id, what: what, payload: .command(["/usr/bin/true"]),
      expect: { evidence, verdict in try await body(evidence.place, &verdict) }, control: .within)
  }

  /// The shortest there is, so that little time is spent with waiting for its end; a worker gives a statement half of
  /// it. Only where it has to end: a busy host may lose it otherwise.
  static let lease = ["--lease", "\(Int(2 * patience))s"]
  /// Of the next worker, which keeps its own.
  private static let longerLease = ["--lease", "\(Int(6 * patience))s"]

  /// A house of its own, ended however the body ends. What it leaves on the host is looked at when it is gone.
  static func withHouse(
    _ verdict: inout Verdict, slots: Int = 1, options: [String] = [], upstream: Upstream? = nil,
    _ body: (AttackHouse, inout Verdict) async throws -> Void
  ) async throws {
    let house = try await AttackHouse(slots: slots, options: options, upstream: upstream)
    let wardens = house.wardens()
    do {
      try await body(house, &verdict)
    } catch { verdict.fail("\(error)") }
    await house.client.close()
    await house.superuser.close()
    // Some of them have killed it, or it ended by itself; PostgreSQL may run on then.
    house.worker.signal(SIGCONT)
    await end(house.worker, &verdict)
    await end(house.house.up, &verdict)
    try house.house.stopPostgres()
    for warden in wardens {
      do {
        let groups = house.groups
        try await eventually("its groups are gone", limit: CleanHost.limit) { !CleanHost.hasGroups(warden, groups) }
      } catch { verdict.fail("groups of warden \(warden) are left") }
    }
    let mounts = try readText("/proc/self/mountinfo")
    verdict.require(!mounts.contains(house.directory), "a mount of the house is left")
    house.user?.remove()
    try? FileManager.default.removeItem(at: house.house.directory)
  }

  private static func end(_ worker: RunningTool, _ verdict: inout Verdict) async {
    worker.signal(SIGTERM)
    do { _ = try await worker.answer(limit: .seconds(40)) } catch { verdict.fail("it does not leave: \(error)") }
  }

  private static func outcomes(_ record: JSONValue) -> [String] {
    (record["attempts"]?.array ?? []).compactMap { $0["outcome"]?.string }
  }

  /// Sleeps under a mark in its first attempt, and ends at once in the next.
  private static let sleeper = Payload.bash(
    "echo $CORDON_ATTEMPT > $CORDON_OUTPUT/attempt; [ $CORDON_ATTEMPT = 1 ] && exec sleep $1; echo again")

  private static let pr18 = fleetCase("PR-18", "kill -9 the worker in the middle of a job") { place, verdict in
    try await withHouse(&verdict, options: lease) { house, verdict in
      let job = try await house.enqueue(sleeper.specification([place.marker.text], label: "PR-18", asks: [:]))
      try await eventually("the job runs", limit: .seconds(30)) { place.marker.exists }
      house.worker.signal(SIGKILL)
      _ = try await house.worker.answer()
      do {
        try await eventually("the cell is dead", limit: CleanHost.limit) { !place.marker.exists }
      } catch { verdict.fail("the cell outlived its worker") }
      let other = try house.otherWorker(longerLease)
      let record = try await house.finished(job)
      verdict.equal(outcomes(record), ["lost", "succeeded"], "attempts")
      for problem in try await house.rowProblems(of: job, attack: "PR-18") { verdict.fail(problem) }
      await end(other, &verdict)
    }
    // The control: what is not confined outlives whoever started it.
    let marker = Marker()
    _ = try await HostCommand.run(
      """
      coproc parent { exec bash -c 'sleep "$1" >/dev/null 2>&1 & echo begun; sleep 9' bash "$1"; }
      p=$parent_PID; read -r -u "${parent[0]}"; kill -9 $p; wait $p
      """, marker.text)
    do {
      // It says so once it has forked; what it forked executes sleep in its own time.
      try await eventually("the child lives") { marker.exists }
    } catch { verdict.fail("control: a process that is not confined died with its parent") }
    marker.end()
  }

  private static let pr18b = fleetCase("PR-18b", "kill -9 the worker and its warden at once") { place, verdict in
    try await withHouse(&verdict, options: lease) { house, verdict in
      let job = try await house.enqueue(sleeper.specification([place.marker.text], label: "PR-18b", asks: [:]))
      try await eventually("the job runs", limit: .seconds(30)) { place.marker.exists }
      let wardens = house.wardens()
      house.worker.signal(SIGSTOP)
      for warden in wardens { kill(warden, SIGKILL) }
      house.worker.signal(SIGKILL)
      _ = try await house.worker.answer()
      do {
        try await eventually("the cell is dead", limit: CleanHost.limit) { !place.marker.exists }
      } catch {
        verdict.fail("the cell outlived its warden")
        place.marker.end()
      }
      // The next warden sweeps the groups of the dead one.
      let other = try house.otherWorker(longerLease)
      verdict.equal(outcomes(try await house.finished(job)), ["lost", "succeeded"], "attempts")
      await end(other, &verdict)
    }
  }

  private static let pr19 = fleetCase("PR-19", "pause the worker past its lease, and let it go on") { place, verdict in
    try await withHouse(&verdict, options: lease) { house, verdict in
      // The control: a pause within the lease takes nothing away.
      let short = try await house.enqueue(
        Payload.bash("sleep 1; echo ok").specification([], label: "PR-19", asks: [:]))
      _ = try await house.running(short)
      house.worker.signal(SIGSTOP)
      try await Task.sleep(for: .milliseconds(400))
      house.worker.signal(SIGCONT)
      verdict.equal(outcomes(try await house.finished(short)), ["succeeded"], "control: attempts after a short pause")

      let payload = Payload.bash(
        "echo $CORDON_ATTEMPT > $CORDON_OUTPUT/x; [ $CORDON_ATTEMPT = 1 ] && exec sleep $1; echo again")
      let job = try await house.enqueue(payload.specification([place.marker.text], label: "PR-19", asks: [:]))
      try await eventually("the job runs", limit: .seconds(30)) { place.marker.exists }
      house.worker.signal(SIGSTOP)
      let other = try house.otherWorker(longerLease)
      let record = try await house.finished(job)
      verdict.equal(record["attempt"], .integer(2), "the attempt that was recorded")
      house.worker.signal(SIGCONT)
      do {
        try await eventually("the paused worker's cell is dead", limit: CleanHost.limit) { !place.marker.exists }
      } catch { verdict.fail("the cell of the paused worker lives on") }
      let later = try await house.record(job)
      verdict.equal(outcomes(later), ["lost", "succeeded"], "attempts")
      for problem in try await house.rowProblems(of: job, attack: "PR-19") { verdict.fail(problem) }
      let own = house.directory + "/artifacts/local/\(job)/1"
      verdict.require(!FileManager.default.fileExists(atPath: own), "the outputs of the lost attempt are published")
      await end(other, &verdict)
    }
  }

  private static let op01 = fleetCase("OP-01", "serve without cgroups, without a helper, with one that is none") {
    place, verdict in
    try await HostCases.doctor(
      """
      exec unshare --mount --propagation private \
        bash -c 'mount -t tmpfs none /sys/fs/cgroup && exec "$0" doctor --json' "$cordon"
      """,
      &verdict, names: "cgroup")
    let absent = try await Tool(url: "").run(["doctor", "--json", "--warden", "/nonexistent/warden"])
    verdict.equal(absent.status, 3, "exit code without a helper")
    try await withHouse(&verdict) { house, verdict in
      _ = try await house.superuser.query(Statement(name: "spare", sql: "SELECT cordon.add_queue('spare')"))
      let specification = try Payload.command(["/usr/bin/true"]).specification([], label: "OP-01", asks: [:])
      let job = try await house.enqueue(specification, queue: "spare")
      let bad = try house.otherWorker(["--queue", "spare", "--warden", "/usr/bin/false"])
      let answer = try await bad.answer()
      verdict.equal(answer.status, 3, "exit code of a worker with a helper that is none: \(answer.stderr)")
      verdict.equal(try await house.record(job)["state"], .string("queued"), "the job")
      // The control: a worker that can confine takes it.
      let good = try house.otherWorker(["--queue", "spare"])
      verdict.equal(try await house.finished(job)["outcome"], .string("succeeded"), "control: the job")
      await end(good, &verdict)
    }
  }

  private static let op02 = fleetCase("OP-02", "serve where one controller alone is missing") { _, verdict in
    let hybrid = FileManager.default.fileExists(atPath: "/sys/fs/cgroup/unified/cgroup.procs")
    let without =
      hybrid
      ? """
      exec unshare --mount --propagation private \
        bash -c 'umount /sys/fs/cgroup/pids && exec "$0" doctor --json' "$cordon"
      """
      // A root of its own that the controller was not handed down to.
      : """
      p=/sys/fs/cgroup/cordon-attack-$$; mkdir $p && echo '+memory +cpu' > $p/cgroup.subtree_control; mkdir $p/own
      trap 'echo $$ > /sys/fs/cgroup/cgroup.procs; rmdir $p/own $p' EXIT; echo $$ > $p/own/cgroup.procs
      unshare --cgroup --mount --propagation private bash -c \
        'umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec "$0" doctor --json' "$cordon"
      """
    try await HostCases.doctor(without, &verdict, names: hybrid ? "cgroup.pids" : "cgroup")
    let well = try await Tool(url: "").run(["doctor", "--json"])
    verdict.equal(well.status, 0, "control: the doctor with every controller: \(well.text)")
  }

  private static let op03 = fleetCase("OP-03", "a control that stops to hold under a worker that serves") {
    _, verdict in
    try await withHouse(&verdict, options: ["--canary-interval", "1s"]) { house, verdict in
      // The control: with nothing changed the worker serves on, several canaries later.
      try await Task.sleep(for: .seconds(3))
      let specification = try Payload.command(["/usr/bin/true"]).specification([], label: "OP-03", asks: [:])
      let before = try await house.finished(house.enqueue(specification))
      verdict.equal(before["outcome"], .string("succeeded"), "control: a job before")
      guard let warden = house.wardens().first else { return verdict.fail("no warden") }
      // Every later cell finds a writable, executable place more: in the namespace that cells copy, which the warden holds.
      let changed = try await HostCommand.run(
        """
        for held in /proc/$1/fd/*; do
          case $(readlink "$held") in
            mnt:*) nsenter --mount="$held" mount -t tmpfs -o mode=777 none /usr/local/share || exit ;;
          esac
        done
        """, "\(warden)")
      verdict.equal(changed.status, 0, "status of the change: \(changed.output)")
      let answer = try await house.worker.answer(limit: .seconds(40))
      verdict.equal(answer.status, 3, "exit code of the worker")
      verdict.require(answer.stderr.contains("mounts"), "it does not name the control: \(answer.stderr.suffix(600))")
    }
  }

  private static let workerSessions = Statement(
    name: "sessions", sql: "SELECT pid FROM pg_stat_activity WHERE usename = 'cordon_local_worker'")

  private static func freeze(_ house: AttackHouse, _ signal: Int32) async throws -> [pid_t] {
    let sessions = try await house.superuser.query(workerSessions).map { try $0.get("pid", as: Int32.self) }
    for session in sessions { kill(session, signal) }
    return sessions
  }

  private static let op05 = fleetCase("OP-05", "a database that hangs under a running job") { place, verdict in
    try await withHouse(&verdict, options: lease) { house, verdict in
      // The control: a moment's silence ends nothing.
      let short = try await house.enqueue(Payload.bash("sleep 1").specification([], label: "OP-05", asks: [:]))
      _ = try await house.running(short)
      let silent = try await freeze(house, SIGSTOP)
      try await Task.sleep(for: .milliseconds(100))
      for session in silent { kill(session, SIGCONT) }
      verdict.equal(outcomes(try await house.finished(short)), ["succeeded"], "control: attempts after a moment")

      let job = try await house.enqueue(sleeper.specification([place.marker.text], label: "OP-05", asks: [:]))
      try await eventually("the job runs", limit: .seconds(30)) { place.marker.exists }
      let frozen = try await freeze(house, SIGSTOP)
      let waiting = try await house.enqueue(
        Payload.command(["/usr/bin/true"]).specification([], label: "OP-05", asks: [:]))
      do {
        try await eventually("the worker ends its own cell", limit: .seconds(8)) { !place.marker.exists }
      } catch { verdict.fail("the cell outlived the lease") }
      verdict.equal(try await house.record(waiting)["state"], .string("queued"), "a job that waits meanwhile")
      for session in frozen { kill(session, SIGCONT) }
      verdict.equal(outcomes(try await house.finished(job)), ["lost", "succeeded"], "attempts")
      for problem in try await house.rowProblems(of: job, attack: "OP-05") { verdict.fail(problem) }
      verdict.equal(outcomes(try await house.finished(waiting)), ["succeeded"], "the job that waited")
    }
  }

  private static let op06 = fleetCase("OP-06", "a disk that is full where artifacts go") { _, verdict in
    try await withHouse(&verdict) { house, verdict in
      let artifacts = house.directory + "/artifacts"
      let payload = Payload.bash("head -c 3M /dev/urandom > $CORDON_OUTPUT/big; echo x > $CORDON_OUTPUT/small")
      let mounted = try await HostCommand.run("mount -t tmpfs -o size=1m,mode=1777 none \"$1\"", artifacts)
      verdict.equal(mounted.status, 0, "status of mount")
      let job: String
      do {
        job = try await house.enqueue(payload.specification([], label: "OP-06", asks: [:]))
        _ = try await house.wait(for: job) { !outcomes($0).isEmpty }
        let waiting = try await house.record(job)
        verdict.equal(Set(outcomes(waiting)), ["lost"], "attempts while the disk is full")
        let found = try await HostCommand.run("find \"$1\" -type f", artifacts)
        verdict.equal(found.output, "", "files where nothing is published")
      } catch {
        _ = try await HostCommand.run("umount -l \"$1\"", artifacts)
        throw error
      }
      let unmounted = try await HostCommand.run("umount -l \"$1\"", artifacts)
      verdict.equal(unmounted.status, 0, "status of umount")
      // The control: with space again the same job succeeds.
      let record = try await house.finished(job)
      verdict.equal(record["outcome"], .string("succeeded"), "control: the outcome with space")
      verdict.equal(record["artifacts"]?.array?.count, 2, "control: artifacts")
      for problem in try await house.rowProblems(of: job, attack: "OP-06") { verdict.fail(problem) }
    }
  }

  private static let op09 = fleetCase("OP-09", "a worker older than its database") { _, verdict in
    try await withHouse(&verdict) { house, verdict in
      // The control: at this version another worker comes and goes.
      let fitting = try house.otherWorker()
      try await Task.sleep(for: .seconds(2))
      verdict.require(fitting.process.isRunning, "control: a worker of this version left: \(fitting.stderr)")
      await end(fitting, &verdict)
      let newer = Statement(
        name: "newer",
        sql: """
          INSERT INTO cordon.schema_version (version, name, checksum)
          VALUES (9999, 'of a later build', 'sha256:' || repeat('0', 64))
          """)
      _ = try await house.superuser.query(newer)
      let answer = try await house.otherWorker().answer()
      verdict.equal(answer.status, 3, "exit code: \(answer.stderr)")
      verdict.require(answer.stderr.contains("9999"), "it does not name the version: \(answer.stderr)")
    }
  }

  private static let op10 = fleetCase("OP-10", "stop the worker while a job runs, for an upgrade") { place, verdict in
    try await withHouse(&verdict) { house, verdict in
      let payload = Payload.bash("sleep 1.5; echo done > $CORDON_OUTPUT/x")
      let job = try await house.enqueue(payload.specification([], label: "OP-10", asks: [:]))
      _ = try await house.running(job)
      house.worker.signal(SIGTERM)
      let answer = try await house.worker.answer()
      verdict.equal(answer.status, 0, "exit code after a drain: \(answer.stderr.suffix(300))")
      let published = house.directory + "/artifacts/local/\(job)/1/x"
      verdict.require(FileManager.default.fileExists(atPath: published), "the job that ran was not waited for")
    }
    // The control: told twice, it does not wait.
    try await withHouse(&verdict) { house, verdict in
      let job = try await house.enqueue(sleeper.specification([place.marker.text], label: "OP-10", asks: [:]))
      try await eventually("the job runs", limit: .seconds(30)) { place.marker.exists }
      house.worker.signal(SIGTERM)
      // Two signals that nobody has taken yet are one.
      try await eventually("it drains", limit: .seconds(30)) { house.worker.stderr.contains("draining") }
      house.worker.signal(SIGTERM)
      _ = try await house.worker.answer()
      verdict.require(!place.marker.exists, "the cell outlived the worker")
      let published = house.directory + "/artifacts/local/\(job)/1"
      verdict.require(!FileManager.default.fileExists(atPath: published), "control: it waited")
    }
  }
}
