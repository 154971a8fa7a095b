import Glibc
import Jobs
import Kernel
import Testing

@testable import Sandbox

/// What a job finds, and what it leaves. Each case has a control that shows that the case can fail.
@Suite("Confinement", .serialized) struct ConfinementTests {
  @Test func theSelfTestHolds() async throws {
    try await withBench { (bench) async throws in
      let findings = try await SelfTest.run(bench.sandbox)
      #expect(findings.filter { !$0.holds }.map { "\($0.control): \($0.detail)" } == [])
      let controls: Set<String> = [
        "capabilities", "no_new_privs", "seccomp", "uid", "gid", "namespaces", "mounts", "writable", "inputs",
        "network.interfaces", "network.routes", "processes", "descriptors", "sockets", "system_calls", "cgroup.memory",
        "cgroup.pids", "limits.wall", "limits.output",
      ]
      #expect(Set(findings.map(\.control)) == controls)
      #expect(bench.sandbox.facts.missing.isEmpty)
      #expect(["v2", "hybrid"].contains(bench.sandbox.facts.cgroup))
    }
  }

  @Test func theProgramOfTheSelfTestSeesAnUnconfinedShell() async throws {
    // The control of the self-test: what only looks, on the host, where nothing confines it.
    let scratch = try Scratch()
    let script = try scratch.file("looks.sh", Inspection.looks + "section end\n")
    #expect(try run(["/usr/bin/bash", "--norc", script], output: scratch.path + "/out") == 0)
    let inspection = Inspection(transcript: try readFile(scratch.path + "/out"))
    let failing = inspection.findings(uid: nil, namespaces: [], own: [:]).filter { !$0.holds }.map(\.control)
    for control in ["capabilities", "no_new_privs", "seccomp", "uid", "gid", "namespaces", "mounts", "processes"] {
      #expect(failing.contains(control), "\(control) must not hold outside of a cell")
    }
  }

  /// Runs a program on the host and returns its wait status.
  private func run(_ argv: [String], output: String) throws -> Int32 {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT, 0o600)
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
    let arguments: [UnsafeMutablePointer<CChar>?] = argv.map { strdup($0) }
    defer { for argument in arguments { free(argument) } }
    var process = pid_t()
    let spawned = posix_spawn(&process, argv[0], &actions, nil, arguments + [nil], environ)
    guard spawned == 0 else { throw SystemError("posix_spawn", errno: spawned) }
    var status: Int32 = 0
    waitpid(process, &status, 0)
    return status
  }

  @Test func doctorFindsThisHostGood() async throws {
    let scratch = try Scratch()
    let findings = await HostReport.doctor(Bench.configuration(scratch))
    #expect(findings.count > 15)
    #expect(findings.filter { !$0.holds }.map { "\($0.control): \($0.detail)" } == [])
  }

  @Test func liveCellsHaveDifferentUsers() async throws {
    try await withBench { (bench) async throws in
      let (first, firstStage) = try await bench.start(["/usr/bin/sleep", "300"])
      let (second, secondStage) = try await bench.start(["/usr/bin/sleep", "300"])
      #expect(first.uid != second.uid)
      // Above the ranges that adduser and systemd give to containers, below what is negative to some programs.
      for cell in [first, second] { #expect((0x7000_0000..<0x8000_0000).contains(cell.uid)) }
      #expect(try processes(of: first.uid).count >= 1, "control: the host sees the job under that uid")
      first.stop(.abandoned)
      second.stop(.abandoned)
      _ = try await (first.report(), second.report())
      firstStage.remove()
      secondStage.remove()
    }
  }

  @Test func nothingIsLeftForTheNextJob() async throws {
    try await withBench { (bench) async throws in
      let places = ["/tmp", "/dev/shm", "/output", "/result"]
      let writer = try await bench.bash(
        places.map { "echo secret > \($0)/left; cat \($0)/left" }.joined(separator: "; "))
      #expect(writer.stdout == String(repeating: "secret\n", count: places.count), "control: the places can be written")
      let reader = try await bench.bash(places.map { "ls -A \($0)" }.joined(separator: "; "))
      #expect(reader.stdout == "")
      for path in ["/tmp/left", "/dev/shm/left", "/output", "/result"] { #expect(!exists(path)) }
    }
  }

  @Test func inputsCannotBeChanged() async throws {
    try await withBench { (bench) async throws in
      let stage = try bench.sandbox.stage()
      defer { stage.remove() }
      let facts = try stage.writeInput(name: "a.csv", bytes: Array("1,2\n".utf8))
      _ = try stage.writeJobFile(
        name: "main.sh",
        bytes: Array(
          """
          cat /input/a.csv
          for f in /input/a.csv /input/new /job/main.sh /job/new /etc/hosts /usr/bin/true; do
            (: >> $f) 2>/dev/null && echo "wrote $f"
          done
          rm -f /input/a.csv 2>/dev/null; chmod 777 /input/a.csv 2>/dev/null; mv /input/a.csv /output 2>/dev/null
          pwd; ls /input; exit 0
          """.utf8), executable: false)
      let request = CellRequest(
        stage: stage, argv: ["/usr/bin/bash", "main.sh"], environment: [("PATH", "/usr/bin")], limits: Limits())
      let ran = try await bench.finish(bench.sandbox.run(request))
      #expect(ran.stdout == "1,2\n/job\na.csv\n")
      let path = bench.scratch.path + "/state/stages/" + stage.name + "/input/a.csv"
      #expect(sha256(Array(try readFile(path).utf8)) == facts.sha256)
    }
  }

  @Test func noSecretOfTheWorkerIsVisible() async throws {
    setenv("CORDON_TEST_CANARY", "canary-3f1c", 1)
    defer { unsetenv("CORDON_TEST_CANARY") }
    try await withBench { (bench) async throws in
      let own = try readFile("/proc/\(bench.sandbox.facts.wardenProcessID)/environ")
      #expect(!own.contains("canary-3f1c"), "not even the warden has it")
      let ran = try await bench.bash(
        """
        cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c 'can[a]ry-3f'
        ls -d /root /home /var/lib /etc/shadow /etc/ssl/private /run/* /sys/kernel /host 2>/dev/null
        exit 0
        """)
      #expect(ran.stdout == "0\n")
    }
  }

  @Test func forbiddenCallsFail() async throws {
    try await withBench { (bench) async throws in
      let ran = try await bench.python(
        """
        import ctypes, os, socket
        libc = ctypes.CDLL(None, use_errno=True)
        def call(name, number, *arguments):
          ctypes.set_errno(0)
          if libc.syscall(number, *arguments) >= 0: print('allowed', name)
        call('unshare', 272, 0x10000000)
        call('setns', 308, 0, 0)
        call('mount', 165, b'none', b'/tmp', b'tmpfs', 0, None)
        call('pivot_root', 155, b'/', b'/')
        call('bpf', 321, 0, None, 0)
        call('perf_event_open', 298, None, 0, -1, -1, 0)
        call('io_uring_setup', 425, 1, None)
        call('keyctl', 250, 0, -3, 0)
        call('add_key', 248, b'user', b'a', b'b', 1, -3)
        call('userfaultfd', 323, 0)
        call('kexec_load', 246, 0, 0, None, 0)
        call('ptrace', 101, 0, 0, 0, 0)
        call('init_module', 175, None, 0, b'')
        call('open_tree', 428, -100, b'/', 1)
        call('fsopen', 430, b'tmpfs', 0)
        call('personality', 135, 0x0040000)
        call('setuid', 105, 0)
        call('chroot', 161, b'/tmp')
        for family in range(0, 46):
          if family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6): continue
          for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            try: socket.socket(family, kind); print('allowed family', family, kind)
            except OSError: pass
        for family in (socket.AF_INET, socket.AF_INET6):
          for kind in range(3, 16):
            for protocol in (0, 1, 132):
              # PermissionError alone is the filter's: any other is the answer of a kernel that was asked.
              try: socket.socket(family, kind, protocol); print('allowed', family, kind)
              except PermissionError: pass
        print('end', os.getuid() != 0)
        """)
      #expect(ran.outcome == .succeeded, "\(ran.stderr)")
      #expect(ran.stdout == "end True\n")
    }
  }

  /// /usr and the device nodes are the host's own inodes: a job must neither change them nor see what others do there.
  @Test func sharedFilesTellAndKeepNothing() async throws {
    try await withBench { (bench) async throws in
      let devices = ["null", "zero", "full", "random", "urandom"].map { "/dev/" + $0 }
      func times() throws -> [Int] {
        try devices.map { path in
          let status = try Descriptor.open(path).status()
          return Int(status.st_mtim.tv_sec) ^ Int(status.st_mode) << 40
        }
      }
      let before = try times()
      let ran = try await bench.python(
        """
        import ctypes, errno, os
        for path in ('null', 'zero', 'full', 'random', 'urandom'):
          path = '/dev/' + path
          for change in (lambda: os.utime(path), lambda: os.utime(path, (1, 1)), lambda: os.chmod(path, 0o777)):
            try: change(); print('changed', path)
            except OSError: pass
        with open('/dev/null', 'w') as null: null.write('x')
        print(len(open('/dev/urandom', 'rb').read(8)), os.listdir('/usr/local/etc'))
        libc = ctypes.CDLL(None, use_errno=True)
        print(libc.inotify_init1(0), errno.errorcode[ctypes.get_errno()])
        """)
      #expect(ran.stdout == "8 []\n-1 ENOSYS\n", "\(ran.stderr)")
      #expect(try times() == before)
      #expect(exists("/usr/local/etc"), "control: the host has it")
    }
  }

  @Test func theKernelsFilesOfTheHostAreClosed() async throws {
    try await withBench { (bench) async throws in
      let ran = try await bench.python(
        """
        import glob, os, resource
        for path in ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/proc/sys/kernel/modprobe',
                     '/sys/fs/cgroup/cgroup.procs', '/sys/kernel/uevent_helper', '/proc/1/mem', '/proc/1/oom_score_adj'):
          try: os.close(os.open(path, os.O_WRONLY)); print('opened', path)
          except OSError: pass
        for path in ('/proc/1/root', '/proc/1/cwd', '/proc/1/fd', '/proc/1/environ', '/proc/kcore', '/proc/kmsg',
                     '/proc/keys', '/proc/timer_list', '/dev/mem', '/dev/kmsg', '/dev/sda', '/dev/tty', '/dev/console'):
          try:
            os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(1)
            print('read', path)
          except OSError: pass
        for pid in range(2, 400):
          try: os.kill(pid, 0)
          except ProcessLookupError: continue
          except PermissionError: print('sees', pid)
        print('core', resource.getrlimit(resource.RLIMIT_CORE))
        print('suid', [p for p in glob.glob('/usr/bin/*') if os.path.exists(p) and os.statvfs(p).f_flag & os.ST_NOSUID == 0])
        try: os.setpriority(os.PRIO_PROCESS, 0, -5); print('priority raised')
        except OSError: pass
        """)
      #expect(ran.outcome == .succeeded, "\(ran.stderr)")
      #expect(ran.stdout == "core (0, 0)\nsuid []\n")
    }
  }

  @Test func theHostIsCleanAfterwards() async throws {
    let scratch = try Scratch()
    let warm = try await Sandbox.start(Bench.configuration(scratch))
    await warm.shutdown()
    // Without waiting cells, which hold descriptors and groups of their own in numbers that follow demand.
    var configuration = Bench.configuration(scratch)
    configuration.pool = 0
    let sandbox = try await Sandbox.start(configuration)
    let bench = Bench(sandbox: sandbox, scratch: scratch, approvedRoot: scratch.path + "/approved")
    _ = try await bench.run(["/usr/bin/true"])
    let warden = "/proc/\(sandbox.facts.wardenProcessID)"
    // Groups are removed in the kernel's own time.
    #expect(try await eventually { try groups(of: sandbox.facts.wardenProcessID).count <= 8 })
    let (groupsBefore, descriptors) = (
      try groups(of: sandbox.facts.wardenProcessID), try self.descriptors(of: warden)
    )
    var users: Set<UInt32> = []
    for round in 0..<5 {
      try await withThrowingTaskGroup(of: UInt32.self) { group in
        for index in 0..<4 {
          group.addTask {
            let script = "(setsid sleep 300 &) ; echo \(round) > /output/x; exit \(index)"
            let ran = try await bench.bash(script)
            #expect(ran.outcome == (index == 0 ? .succeeded : .failed(code: Int32(index))))
            return try #require(ran.report.isolation.uid)
          }
        }
        for try await uid in group { users.insert(uid) }
      }
    }
    #expect(try await eventually { try groups(of: sandbox.facts.wardenProcessID).count <= groupsBefore.count })
    #expect(try await eventually { try self.descriptors(of: warden) <= descriptors })
    for uid in users { #expect(try processes(of: uid).isEmpty) }
    #expect(try !readFile("/proc/self/mountinfo").contains(scratch.path))
    #expect(try names(in: scratch.path + "/state/stages").isEmpty)
    await sandbox.shutdown()
    #expect(!exists(warden))
    #expect(try await eventually { try groups(of: sandbox.facts.wardenProcessID).isEmpty })
  }

  /// Without the empty network namespaces that wait for cells, which are few.
  private func descriptors(of warden: String) throws -> Int {
    let links = try names(in: warden + "/fd").map { name in
      var buffer = [CChar](repeating: 0, count: 256)
      return readlink(warden + "/fd/" + name, &buffer, 255) > 0
        ? String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) : ""
    }
    let networks = links.count { $0.hasPrefix("net:[") }
    #expect(networks <= 64)
    return links.count - networks
  }
}
