import Foundation
import Jobs
import TestKit

/// What a cell sees of the host's own files: those of proc, the mounts, and the inodes that all cells share.
enum SharedFileCases {
  static let all: [AttackCase] = [fs31, fs32, fs33]

  private static let fs31 = AttackCase(
    id: "FS-31", what: "every file of proc that can be opened for writing",
    payload: .file("proc-writes.py"),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      for path in [
        "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches",
      ] {
        verdict.met(evidence, [path], "ENOENT")
      }
      // What of its own knobs a process may write changes itself alone.
      verdict.equal(evidence.seen["outside"], .array([]), "writable beside the own process")
      verdict.require((evidence.number("tried") ?? 0) > 20, "\(evidence.seen)")
      verdict.met(evidence, ["attr"], "ENOENT", "EACCES", "EINVAL", "EPERM", "ENODEV")
      verdict.met(evidence, ["oom_score_adj down"], "EACCES", "EPERM")
      verdict.met(evidence, ["uid_map"], "EPERM", "EACCES")
    },
    // Opened only: on the host these files must not be written.
    control: .host(check: { evidence, verdict in
      verdict.met(evidence, ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches"], "ok")
      verdict.require((evidence.seen["outside"]?.array?.count ?? 0) > 50, "too little can be opened")
    }))

  private static let fs32 = AttackCase(
    id: "FS-32", what: "every mount and submount: flags, and a write attempt",
    payload: .file("mounts.py"),
    asks: ["inputs": .object(["given.txt": .object(["text": .string("given")])])],
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      let writable: Set<String> = ["/tmp", "/dev/shm", "/output", "/result"]
      var seen: Set<String> = []
      for mount in evidence.seen["mounts"]?.array ?? [] {
        let path = mount["path"]?.string ?? ""
        let options = Set((mount["options"]?.string ?? "").split(separator: ",").map(String.init))
        verdict.require(seen.insert(path).inserted, "something else is mounted beneath what is seen at \(path)")
        verdict.require(options.contains("nosuid"), "\(path) honours setuid bits")
        if writable.contains(path) {
          verdict.equal(mount["type"]?.string, "tmpfs", "filesystem of \(path)")
          continue
        }
        // A proc of its own has nothing that a flag could keep from being written but the process's own knobs.
        if path != "/proc" {
          verdict.require(options.contains("ro"), "\(path) is writable: \(options)")
          verdict.require(["EROFS", "ENOTDIR"].contains(mount["mkdir"]?.string), "mkdir in \(path) met \(mount)")
        }
        let mayRun =
          path == "/usr" || (path.hasPrefix("/usr/") && path != "/usr/local/etc")
          || ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"].contains(path)
        if !mayRun { verdict.require(options.contains("noexec"), "programs run on \(path): \(options)") }
        verdict.require(!(mount["propagation"]?.string ?? "").contains("shared"), "\(path) propagates")
      }
      verdict.require(
        seen.isSuperset(of: ["/", "/usr", "/proc", "/input", "/job", "/tmp", "/dev/shm", "/output", "/result"]),
        "\(seen)")
      verdict.metAll(evidence, prefix: "write ", "EACCES", "EROFS", "ENOENT")
      verdict.metAll(evidence, prefix: "create ", "EROFS", "ENOENT")
      verdict.met(evidence, ["run the program's file"], "EACCES")
    },
    control: .host(
      wrapper: [
        "/usr/bin/unshare", "--mount", "--propagation", "private", "/bin/sh", "-c",
        "mount -t tmpfs none \"$CORDON_OUTPUT\" && exec \"$@\"", "sh",
      ],
      arguments: { _ in ["only"] },
      check: { evidence, verdict in
        let own = (evidence.seen["mounts"]?.array ?? []).first { $0["path"]?.string == evidence.scratch + "/output" }
        verdict.equal(own?["mkdir"]?.string, "ok", "mkdir in a mount without flags")
        verdict.require(!(own?["options"]?.string ?? "nosuid").contains("nosuid"), "its options")
        verdict.met(evidence, ["run the program's file"], "ok")
      }))

  private static let locks = Payload.python(
    """
    import fcntl, signal
    told = []
    signal.signal(signal.SIGIO, lambda number, frame: told.append(number))
    descriptor = os.open("/usr/bin/true", os.O_RDONLY)
    directory = os.open("/usr/bin", os.O_RDONLY)
    attempt("flock", lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB))
    attempt("lock", lambda: fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB))
    attempt("exclusive lock", lambda: fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB))
    attempt("lease", lambda: fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK))
    attempt("dnotify", lambda: fcntl.fcntl(directory, fcntl.F_NOTIFY, fcntl.DN_ACCESS))
    call("inotify", 294, 0)
    # What somebody else runs from there would be told.
    os.system("/usr/bin/head -c 1 /usr/bin/env > /dev/null")
    time.sleep(0.2)
    note("told", len(told))
    """)

  private static let fs33 = AttackCase(
    id: "FS-33", what: "locks, leases and watches on files that cells share",
    payload: locks,
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.met(evidence, ["lease"], "EACCES", "EINVAL", "EPERM")
      verdict.met(evidence, ["exclusive lock"], "EBADF")
      verdict.met(evidence, ["inotify"], "ENOSYS")
      verdict.met(evidence, ["dnotify"], "EPERM", "EINVAL")
      verdict.equal(evidence.number("told"), 0, "times it was told of an access")
      // Whole-file locks are the residual that the guarantees declare; the words must not be lost.
      let page = try String(contentsOf: TestKit.repository.appending(path: "ops/docs/guarantees.md"), encoding: .utf8)
      verdict.require(page.contains("a lock (`flock`) on one of its files is seen"), "the residual is not declared")
    },
    control: .host(check: { evidence, verdict in
      verdict.met(evidence, ["lease", "dnotify", "inotify", "flock"], "ok")
      verdict.require((evidence.number("told") ?? 0) > 0, "nobody was told of an access")
    }))
}
