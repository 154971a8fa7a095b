import Foundation
import Glibc
import Jobs
import TestKit

/// What a job tries on the kernel beside the enumerations: each call with what it is for.
enum KernelCases {
  static let all: [AttackCase] = [ks01, ks12, ks15, ks16, ks17, ks20, ks21, ks22, ks23, ks25, ks26]

  private static let ks01 = AttackCase(
    id: "KS-01", what: "every namespace flag alone and together, by unshare and by clone",
    payload: .python(
      """
      flags = {"ns": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000,
          "pid": 0x20000000, "net": 0x40000000, "time": 0x80}
      every = sum(value for name, value in flags.items())
      def clone(value):
          child = libc.syscall(ctypes.c_long(56), ctypes.c_ulong(value | 17), None, None, None, None)
          if child == 0: os._exit(0)
          if child > 0: os.waitpid(child, 0)
          book["it"] = "ok" if child > 0 else spelled(ctypes.get_errno())
      for name, value in {**flags, "all": every, "user and net": 0x50000000, "user and ns": 0x10020000}.items():
          apart(f"unshare {name}", lambda: call("it", 272, value))
          if name != "time": apart(f"clone {name}", lambda: clone(value))
          # The upper half of the register is garbage that a comparison must not fall for.
          apart(f"unshare {name} with garbage", lambda: call("it", 272, value | (0xdead << 32)))
      apart("clone plain", lambda: clone(0))
      """),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.metAll(evidence, prefix: "unshare ", "EPERM")
      var found = evidence
      found.seen["clone plain"] = nil
      verdict.metAll(found, prefix: "clone ", "EPERM")
      verdict.met(evidence, ["clone plain"], "ok")
    },
    control: .host(check: { evidence, verdict in
      let names = ["ns", "cgroup", "uts", "ipc", "user", "pid", "net"]
      verdict.met(evidence, names.map { "unshare \($0)" } + names.map { "clone \($0)" } + ["unshare time"], "ok")
    }))

  private static let ks12 = AttackCase(
    id: "KS-12", what: "personalities",
    payload: .python(
      """
      for bit in range(32):
          apart(f"bit {bit}", lambda: call("it", 135, 1 << bit))
      apart("read", lambda: call("it", 135, 0xffffffff))
      apart("plain", lambda: call("it", 135, 0))
      """),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.metAll(evidence, prefix: "bit ", "EPERM")
      verdict.met(evidence, ["read", "plain"], "ok")
    },
    control: .host(check: { evidence, verdict in verdict.met(evidence, ["bit 18", "bit 22"], "ok") }))

  private static let ks15 = AttackCase(
    id: "KS-15", what: "push input into a terminal, take one over, open one",
    payload: .python(
      """
      import fcntl, pty
      for path in ("/dev/tty", "/dev/ptmx", "/dev/console", "/dev/pts/0", "/dev/tty0", "/dev/vcs",
          "/dev/kmsg", "/dev/mem", "/dev/fuse", "/dev/kvm"):
          attempt("open " + path, lambda: os.close(os.open(path, os.O_RDWR | os.O_NOCTTY)))
      try: main, side = pty.openpty()
      except OSError: main = side = 0
      note("terminals", sum(os.isatty(d) for d in (0, 1, 2)))
      os.setsid() if os.getsid(0) != os.getpid() and os.getpgid(0) != os.getpid() else None
      for name, request, argument in (("TIOCSCTTY", 0x540E, 1), ("TIOCSTI", 0x5412, b"x"),
          ("TIOCLINUX", 0x541C, b"\\x06"),
          ("TIOCSETD", 0x5423, struct.pack("i", 0)), ("TIOCCONS", 0x541D, 0), ("KDSETMODE", 0x4B3A, 0)):
          attempt("ioctl " + name, lambda: fcntl.ioctl(side, request, argument))
      """),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.metAll(evidence, prefix: "open ", "ENOENT", "ENXIO")
      verdict.metAll(evidence, prefix: "ioctl ", "EPERM")
      verdict.equal(evidence.number("terminals"), 0, "terminals among the streams")
    },
    control: .host(
      wrapper: ["/usr/bin/setsid", "--fork", "--wait"],
      check: { evidence, verdict in
        verdict.met(evidence, ["open /dev/ptmx", "ioctl TIOCSCTTY", "ioctl TIOCSETD"], "ok")
        verdict.require(evidence.seen["ioctl TIOCSTI"]?.string != "EPERM", "\(evidence.seen)")
        verdict.require(evidence.seen["ioctl TIOCLINUX"]?.string != "EPERM", "\(evidence.seen)")
      }))

  private static let ks16 = AttackCase(
    id: "KS-16", what: "the files by which a kernel is told to start programs",
    payload: .python(
      """
      for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug",
          "/sys/kernel/uevent_helper",
          "/proc/sys/fs/binfmt_misc/register", "/proc/sys/kernel/poweroff_cmd", "/proc/sys/vm/overcommit_memory",
          "/sys/kernel/debug",
          "/sys/kernel/security", "/sys/module", "/proc/kcore", "/proc/kallsyms", "/proc/sys/kernel/ns_last_pid"):
          directory = path.endswith(("debug", "security", "module"))
          secret = path.endswith(("kcore", "kallsyms"))
          mode = os.O_RDONLY | os.O_DIRECTORY if directory else os.O_RDONLY if secret else os.O_WRONLY
          attempt(path, lambda: os.close(os.open(path, mode)))
      """),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.metAll(evidence, prefix: "/", "ENOENT", "EROFS")
    },
    // Opened and closed; nothing is written.
    control: .host(check: { evidence, verdict in
      verdict.met(
        evidence, ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/poweroff_cmd", "/proc/kallsyms", "/sys/module"],
        "ok")
    }))

  private static let ks17 = AttackCase(
    id: "KS-17", what: "control files of cgroups, wherever they may be",
    payload: .python(
      """
      wanted = {"cgroup.procs", "release_agent", "notify_on_release", "memory.max",
          "memory.limit_in_bytes", "pids.max", "cgroup.kill"}
      found, written, walked = 0, 0, 0
      for top, directories, files in os.walk(sys.argv[1]):
          walked += 1
          if top.startswith("/usr/") and len(top) > 40: directories.clear()
          for name in wanted.intersection(files):
              found += 1
              try:
                  os.close(os.open(os.path.join(top, name), os.O_WRONLY))
                  written += 1
              except OSError: pass
          if found > 200: break
      note("found", found)
      note("opened", written)
      note("walked", walked)
      note("own", open("/proc/self/cgroup").read())
      attempt("mount", lambda: call("mount v1", 165, b"none", b"/tmp", b"cgroup", 0, b"memory") and None)
      call("mount v2", 165, b"none", b"/nonexistent", b"cgroup2", 0, None)
      """), arguments: { _ in ["/"] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.equal(evidence.number("found"), 0, "control files found")
      verdict.require((evidence.number("walked") ?? 0) > 20, "\(evidence.seen)")
      verdict.met(evidence, ["mount v1", "mount v2"], "EPERM")
      // In a namespace of its own a cell sees its groups as the root, and does not learn their names.
      for line in (evidence.seen["own"]?.string ?? "0::").split(separator: "\n") where line.contains("cell-") {
        verdict.fail("the cell learns its group's name: \(line)")
      }
    },
    control: .host(
      wrapper: ["/usr/bin/unshare", "--mount", "--propagation", "private"], arguments: { _ in ["/sys/fs/cgroup"] },
      check: { evidence, verdict in
        verdict.require((evidence.number("found") ?? 0) > 0 && (evidence.number("opened") ?? 0) > 0, "\(evidence.seen)")
        verdict.met(evidence, ["mount v2"], "ENOENT")
      }))

  private static let ks20 = AttackCase(
    id: "KS-20", what: "watch files that are shared with the host",
    payload: .python(
      """
      call("fanotify_init", 300, 0, 0)
      call("fanotify_mark", 301, -1, 0, 0, -1, b"/")
      call("inotify_init", 253)
      call("inotify_init1", 294, 0)
      call("inotify_add_watch", 254, -1, b"/usr/bin", 1)
      """),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.metAll(evidence, prefix: "fanotify", "EPERM")
      verdict.metAll(evidence, prefix: "inotify", "ENOSYS")
    },
    control: .host(check: { evidence, verdict in
      verdict.met(evidence, ["fanotify_init", "inotify_init", "inotify_init1"], "ok")
    }))

  private static let ks21 = AttackCase(
    id: "KS-21", what: "prctl and capset: every capability, no_new_privs, the memory map, dumpable, securebits",
    payload: .file("capabilities.py"),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.met(evidence, ["no_new_privs off"], "EINVAL")
      verdict.equal(evidence.number("no_new_privs"), 1, "no_new_privs")
      for number in 0..<64 {
        let last = evidence.number("last") ?? 0
        verdict.equal(
          evidence.number("bounding \(number)"), Double(number) <= last ? 0 : -1, "bounding capability \(number)")
        verdict.met(evidence, ["ambient \(number)"], "EPERM", "EINVAL")
        verdict.met(evidence, ["effective \(number)"], "EPERM")
        verdict.met(evidence, ["inheritable \(number)"], "EPERM")
      }
      verdict.met(evidence, ["securebits", "set_mm"], "EPERM", "EACCES")
      verdict.met(evidence, ["map"], "EPERM", "EACCES", "EINVAL")
      verdict.met(evidence, ["endpoint"], "EPERM", "EINVAL", "EACCES")
    },
    control: .host(check: { evidence, verdict in
      verdict.equal(evidence.number("bounding 0"), 1, "bounding capability 0")
      verdict.met(evidence, ["effective 0", "inheritable 0", "ambient 0", "securebits"], "ok")
      verdict.equal(evidence.number("no_new_privs"), 0, "no_new_privs")
    }))

  private static let ks22 = AttackCase(
    id: "KS-22", what: "a filter and a Landlock ruleset of the job's own",
    payload: .python(
      """
      def load(instructions):
          data = b"".join(struct.pack("HBBI", *i) for i in instructions)
          keep.append(ctypes.create_string_buffer(data))
          program = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(keep[-1]))
          if libc.prctl(38, 1, 0, 0, 0): raise OSError(ctypes.get_errno(), "nnp")
          if libc.syscall(ctypes.c_long(317), 1, 0, program): raise OSError(ctypes.get_errno(), "seccomp")
      keep = []
      def narrower():
          # getppid (110) becomes ENOENT.
          load([(0x20, 0, 0, 0), (0x15, 0, 1, 110), (0x06, 0, 0, 0x00050002), (0x06, 0, 0, 0x7fff0000)])
          call("it", 110)
      def wider():
          load([(0x06, 0, 0, 0x7fff0000)])
          call("unshare", 272, 0x40000000)
          call("it", 110)
      apart("narrower", narrower)
      apart("wider", wider)
      def landlock():
          rights = struct.pack("Q", 0x1fff)
          ruleset = libc.syscall(ctypes.c_long(444), rights, 8, 0)
          call("it", 446, ruleset, 0)
          try: os.close(os.open("/usr/bin/env", os.O_RDONLY)); book["open"] = "ok"
          except OSError as problem: book["open"] = spelled(problem.errno)
      apart("landlock", landlock)
      """),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.met(evidence, ["narrower"], "ENOENT")
      verdict.met(evidence, ["wider"], "ok")
      verdict.met(evidence, ["wider unshare"], "EPERM")
      if evidence.seen["landlock"]?.string == "ok" { verdict.met(evidence, ["landlock open"], "EACCES") }
    },
    control: .host(check: { evidence, verdict in
      verdict.met(evidence, ["narrower"], "ENOENT")
      verdict.met(evidence, ["wider unshare"], "ok")
    }))

  private static let ks23 = AttackCase(
    id: "KS-23", what: "execute what is in no filesystem",
    payload: .python(
      """
      memory = os.memfd_create("program", 0)
      with open("/usr/bin/python3.11", "rb") as program:
          while piece := program.read(1 << 20): os.write(memory, piece)
      text = ("import ctypes, os; s = {l.split(':')[0]: l.split(':')[1].strip() for l in open('/proc/self/status')};"
          "l = ctypes.CDLL(None, use_errno=True); r = l.unshare(0x40000000);"
          "print(s['Seccomp'], s['NoNewPrivs'], s['CapEff'], s['CapBnd'], r,"
          "os.readlink('/proc/self/exe').split(' ')[0])")
      reader, writer = os.pipe()
      if os.fork() == 0:
          os.dup2(writer, 1)
          os.execve(memory, ["program", "-I", "-c", text], {"PATH": "/usr/bin"})
      os.close(writer)
      os.wait()
      note("inside", os.read(reader, 1000).decode().split())
      """),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      let none = "0000000000000000"
      let expected = ["2", "1", none, none, "-1", "/memfd:program"]
      verdict.equal(evidence.seen["inside"], .array(expected.map(JSONValue.string)), "what it is confined by")
    },
    control: .host(check: { evidence, verdict in
      let words = (evidence.seen["inside"]?.array ?? []).compactMap(\.string)
      verdict.require(words.count == 6 && words[0] == "0" && words[4] == "0", "\(words)")
    }))

  private static let ks25 = AttackCase(
    id: "KS-25", what: "what the kernel says of the job itself",
    payload: .command(["/usr/bin/cat", "/proc/self/status", "/proc/self/uid_map", "/proc/self/setgroups"]),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      let fields = Dictionary(
        evidence.stdout.split(separator: "\n").compactMap { line -> (String, String)? in
          guard let colon = line.firstIndex(of: ":") else { return nil }
          return (String(line[..<colon]), line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces))
        }, uniquingKeysWith: { first, _ in first })
      for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        verdict.equal(fields[name], "0000000000000000", name)
      }
      verdict.equal(fields["NoNewPrivs"], "1", "NoNewPrivs")
      verdict.equal(fields["Seccomp"], "2", "Seccomp")
      let uid = evidence.uid.map(String.init) ?? "?"
      let ids = Array(repeating: uid, count: 4).joined(separator: "\t")
      verdict.equal(fields["Uid"], ids, "Uid")
      verdict.equal(fields["Gid"], ids, "Gid")
      verdict.equal(fields["Groups"], "", "Groups")
      verdict.equal(fields["SigBlk"], "0000000000000000", "SigBlk")
      // 32 and 33 are the C library's own: it lets no program change them, and ignores them in whom it spawns.
      let ignored = UInt64(fields["SigIgn"] ?? "", radix: 16).map { $0 & ~0x1_8000_0000 }
      verdict.equal(ignored, 0, "SigIgn")
      // An ordinary user's worker can map its own uid and no other.
      let map = WorkerUser.isOrdinary ? [uid, String(WorkerUser.id), "1"] : ["0", "0", "4294967295"]
      let lines = evidence.stdout.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
      verdict.require(lines.contains(map), "the uid map is another: \(evidence.stdout.suffix(80))")
    },
    control: .host(check: { evidence, verdict in
      verdict.require(evidence.stdout.contains("Seccomp:\t0"), "no filter outside")
      verdict.require(evidence.stdout.contains("NoNewPrivs:\t0"), "no no_new_privs outside")
      verdict.require(!evidence.stdout.contains("CapBnd:\t0000000000000000"), "no capability outside")
    }))

  private static let ks26 = AttackCase(
    id: "KS-26", what: "a thread or process without the filter, from the first instruction on",
    payload: .python(
      """
      import threading
      def look(text):
          names = ("Seccomp:", "Seccomp_filters:", "NoNewPrivs:")
          return [l.split()[1] for l in text.splitlines() if l.startswith(names)]
      states = set()
      def own():
          for task in os.listdir("/proc/self/task"):
              states.add(tuple(look(open(f"/proc/self/task/{task}/status").read())))
      own()
      # None ends while another looks at it.
      looked, seen = threading.Barrier(9, timeout=30), threading.Event()
      threads = [threading.Thread(target=lambda: (own(), looked.wait(), seen.wait())) for _ in range(8)]
      for thread in threads: thread.start()
      looked.wait()
      own()
      seen.set()
      for thread in threads: thread.join()
      for act in (os.fork, lambda: libc.syscall(ctypes.c_long(56), ctypes.c_ulong(17), None, None, None, None)):
          reader, writer = os.pipe()
          if act() == 0:
              os.write(writer, open("/proc/self/status").read().encode())
              os._exit(0)
          os.wait()
          states.add(tuple(look(os.read(reader, 60000).decode())))
      # A program that does nothing but this: what is there before its first instruction.
      states.add(tuple(look(os.popen("/usr/bin/cat /proc/self/status").read())))
      note("states", sorted(map(list, states)))
      """),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      let states = evidence.seen["states"]?.array ?? []
      verdict.equal(states.count, 1, "different states: \(states)")
      let state = (states.first?.array ?? []).compactMap(\.string)
      verdict.require(state.count >= 2 && state[0] == "1" && state[1] == "2", "\(state)")
      if state.count > 2 { verdict.require((Int(state[2]) ?? 0) >= 1, "no filter: \(state)") }
      try await everyThread(evidence, &verdict)
    },
    control: .host(check: { evidence, verdict in
      let state = (evidence.seen["states"]?.array?.first?.array ?? []).compactMap(\.string)
      verdict.equal(state.prefix(2).joined(), "00", "without a filter")
    }))

  /// From the host: every thread of a job whenever it is seen under the job's own program.
  private static func everyThread(_ evidence: Evidence, _ verdict: inout Verdict) async throws {
    let house = evidence.house!
    let marker = Marker()
    let payload = Payload.bash("for i in $(seq 40); do /usr/bin/true; done; exec sleep $1")
    let job = try await house.enqueue(payload.specification([marker.text], label: "KS-26", asks: [:]))
    defer { marker.end() }
    let wardens = house.wardens()
    var looked = 0
    let end = ContinuousClock.now + Duration.seconds(8).patiently
    while ContinuousClock.now < end {
      for process in CleanHost.processes() {
        guard CleanHost.isBeneath(process, wardens),
          let program = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(process)/exe"),
          program.hasPrefix("/usr/bin/")
        else { continue }
        for thread in names(in: "/proc/\(process)/task") {
          guard let text = try? String(contentsOfFile: "/proc/\(process)/task/\(thread)/status", encoding: .utf8),
            // One that has ended has no memory any more, and its filter is gone with it.
            text.contains("\nVmSize:")
          else { continue }
          looked += 1
          // 3 is what the kernel calls a thread that the filter has just killed; jobs of other cases do that on purpose.
          if text.contains("Seccomp:\t2") || text.contains("Seccomp:\t3") { continue }
          let facts = text.split(separator: "\n").filter { line in
            ["Name:", "State:", "PPid:", "Uid:", "NoNewPrivs:", "Seccomp"].contains { line.hasPrefix($0) }
          }
          verdict.fail("a thread of \(program) has no filter: \(facts.joined(separator: ", "))")
        }
      }
      if marker.exists { break }
    }
    verdict.require(looked > 0, "no thread of a job was seen from the host")
    marker.end()
    _ = try await house.finished(job)
  }
}
