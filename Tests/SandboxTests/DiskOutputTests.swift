import Glibc
import Jobs
import Kernel
import Testing

@testable import Sandbox

/// `/output` on a disk, with the real warden, kernel and mkfs.
@Suite("Outputs on a disk", .serialized) struct DiskOutputTests {
  /// What must be as before once the cells are gone: bound loop devices of this suite, mounts of them, and what lies in
  /// the directory.
  private struct Host: Equatable {
    var bound: Set<String>
    var mounts: Int
    var files: [String]

    init(_ scratch: Scratch) throws {
      // Others on this host have loop devices of their own.
      bound = Set(
        try names(in: "/sys/block").filter {
          (try? readFile("/sys/block/\($0)/loop/backing_file"))?.hasPrefix(scratch.path + "/") == true
        })
      let devices = bound.compactMap { try? readFile("/sys/block/\($0)/dev").split(separator: "\n").first }
      mounts = try readFile("/proc/self/mountinfo").split(separator: "\n").count {
        $0.split(separator: " ").dropFirst(2).first.map(devices.contains) == true
      }
      let directory = scratch.path + "/state/outputs"
      files = exists(directory) ? try names(in: directory) : []
    }
  }

  /// Free bytes of the filesystem that the scratch directory is on.
  private static func free(_ scratch: Scratch) throws -> UInt64 {
    var space = statvfs()
    try SystemError.check(statvfs(scratch.path, &space), "statvfs")
    return UInt64(space.f_bfree) * UInt64(space.f_bsize)
  }

  /// What is left to programs that are not root.
  private static func available(_ scratch: Scratch) throws -> UInt64 {
    var space = statvfs()
    try SystemError.check(statvfs(scratch.path, &space), "statvfs")
    return UInt64(space.f_bavail) * UInt64(space.f_frsize)
  }

  private static func limits(memory: Int64 = 256 << 20, output: Int64, files: Int64 = 1_024) -> Limits {
    Limits(wallMilliseconds: 120_000, memoryBytes: memory, outputBytes: output, outputFiles: files)
  }

  @Test func aJobWritesMoreThanItsMemoryHolds() async throws {
    try await withBench { (bench) async throws in
      let before = try Host(bench.scratch)
      let limits = Self.limits(memory: 64 << 20, output: 256 << 20)
      let script = """
        ls -A /output; mkdir /output/a
        head -c 240M /dev/zero | tr '\\0' x > /output/a/large && sha256sum < /output/a/large
        """
      let ran = try await bench.bash(script, limits: limits, outputs: .disk)
      #expect(ran.outcome == .succeeded, "\(ran.stderr) \(ran.report.facts)")
      #expect(ran.report.facts.oomKills == 0 && !ran.report.facts.outputExhausted)
      #expect(ran.report.isolation.outputs == .disk)
      #expect(!ran.stdout.contains("lost+found"), "an empty area is empty")
      let collected = try Outputs.collect(
        ran.report, approvedRoot: bench.approvedRoot, tenant: "t", job: "j", attempt: 1, limits: limits)
      ran.report.discardOutputs()
      #expect(collected.artifacts.map(\.path) == ["a/large"] && collected.quarantined.isEmpty)
      #expect(collected.outputBytes == 240 << 20)
      #expect(ran.stdout.contains(collected.artifacts.first?.sha256.description.dropFirst(7) ?? "-"), "\(ran.stdout)")
      collected.discard()
      #expect(before.files.isEmpty)
      // In memory the same job is ended.
      let small = try await bench.bash(script, limits: limits)
      #expect(small.outcome == .outOfMemory)
    }
  }

  @Test func theAreaIsTheJobsAndNoMore() async throws {
    try await withBench { (bench) async throws in
      let ran = try await bench.bash(
        """
        stat -c '%u %a' /output; id -u; grep ' /output ' /proc/self/mountinfo | sed 's/.* \\/output //'
        echo echo ran > /output/program; chmod 4755 /output/program; /output/program; echo $?
        ls /dev; cat /proc/mounts | grep -c loop
        """, limits: Self.limits(output: 8 << 20), outputs: .disk)
      let lines = ran.stdout.split(separator: "\n").map(String.init)
      #expect(lines.first == "\(ran.report.isolation.uid ?? 0) 700" && lines[1] == "\(ran.report.isolation.uid ?? 0)")
      for option in ["nosuid", "nodev", "noexec", "ext4"] { #expect(lines[2].contains(option), "\(lines)") }
      #expect(lines.contains("126"), "\(lines)")
      #expect(!lines.contains("loop-control") && !lines.contains { $0.hasPrefix("loop") })
    }
  }

  /// What ext4 answers to beyond the calls on files, and could be brought down by: none of it gets there.
  @Test func theFilesystemItselfIsOutOfReach() async throws {
    try await withBench { (bench) async throws in
      let ran = try await bench.python(
        """
        import ctypes, errno, fcntl, os
        libc = ctypes.CDLL(None, use_errno=True)
        area = os.open("/output", os.O_RDONLY)
        file = os.open("/output/file", os.O_CREAT | os.O_RDWR)
        os.write(file, bytes(8192))
        for name, request in [
            ("SHUTDOWN", 0x8004587D), ("FIFREEZE", 0xC0045877), ("FITRIM", 0xC0185879), ("RESIZE", 0x40086610),
            ("GROUP_EXTEND", 0x40086607), ("GROUP_ADD", 0x40286608), ("MOVE_EXT", 0xC028660F), ("MIGRATE", 0x6609),
            ("SWAP_BOOT", 0x6611), ("SETFLAGS", 0x40086602), ("FSSETXATTR", 0x401C5820), ("CHECKPOINT", 0x4004662B),
            ("SETFSUUID", 0x4008662C), ("CLEAR_ES_CACHE", 0x6628), ("FIBMAP", 1), ("FIEMAP", 0xC020660B),
        ]:
            for place in (area, file):
                try:
                    fcntl.ioctl(place, request, bytes(1024))
                    print(name, "ok")
                except OSError as error: print(name, errno.errorcode[error.errno])
        def call(name, *arguments):
            status = libc.syscall(*arguments)
            print(name, "ok" if status >= 0 else errno.errorcode[ctypes.get_errno()])
        call("remount", 165, b"none", b"/output", b"ext4", 32, None)
        call("umount", 166, b"/output", 2)
        call("quotactl", 443, area, 0x80000700, 0, None)
        os.write(file, b"still")
        os.fsync(file)
        """, limits: Self.limits(output: 4 << 20), outputs: .disk)
      #expect(ran.outcome == .succeeded, "\(ran.stderr)")
      let answers = ran.stdout.split(separator: "\n")
      #expect(answers.count == 35)
      #expect(answers.allSatisfy { $0.hasSuffix(" EPERM") || $0.hasSuffix(" ENOSYS") }, "\(ran.stdout)")
    }
  }

  @Test(arguments: [1 << 20, 40 << 20, (32 << 20) - 4_096] as [Int64])
  func bytesAreBounded(output: Int64) async throws {
    try await withBench { (bench) async throws in
      let limits = Self.limits(output: output)
      let exact = try await bench.bash("head -c \(output) /dev/zero > /output/fill", limits: limits, outputs: .disk)
      #expect(exact.outcome == .succeeded, "what is asked for fits: \(exact.stderr)")
      let over = try await bench.bash(
        "head -c \(output + 65_536) /dev/zero > /output/fill; exit 0", limits: limits, outputs: .disk)
      #expect(over.outcome == .outputLimit)
      let full = try await bench.python(
        """
        import errno, os, time
        total = 0
        file = os.open("/output/fill", os.O_CREAT | os.O_WRONLY)
        try:
            while True: total += os.write(file, bytes(1 << 16))
        except OSError as error: print(errno.errorcode[error.errno])
        print(total)
        os.unlink("/output/fill")
        os.close(file)
        try:
            # Without names, and kept.
            kept = [os.open("/output", os.O_TMPFILE | os.O_WRONLY) for _ in range(8)]
            for held in kept: os.posix_fallocate(held, 0, \(output))
        except OSError as error: print(errno.errorcode[error.errno])
        # Seen while it is full, as it will be empty at the end.
        time.sleep(0.5)
        """, limits: limits, outputs: .disk)
      let lines = full.stdout.split(separator: "\n")
      #expect(lines.first == "ENOSPC" && lines.last == "ENOSPC", "\(full.stdout) \(full.stderr)")
      let written = lines.count > 1 ? Int64(lines[1]) ?? 0 : 0
      #expect(written > output && written < output + (3 << 20), "\(written) of \(output)")
      #expect(full.outcome == .outputLimit)
    }
  }

  @Test func filesAreBounded() async throws {
    try await withBench { (bench) async throws in
      func make(_ count: Int) -> String {
        """
        import os
        made = 0
        try:
            for made in range(\(count)): os.close(os.open(f"/output/{made}", os.O_CREAT | os.O_WRONLY))
        except OSError as error: print(error.errno)
        print(made)
        """
      }
      let limits = Self.limits(output: 8 << 20, files: 100)
      let exact = try await bench.python(make(100), limits: limits, outputs: .disk)
      #expect(exact.outcome == .succeeded && exact.stdout == "99\n", "\(exact.stdout)")
      let over = try await bench.python(make(101), limits: limits, outputs: .disk)
      #expect(over.outcome == .outputLimit)
      let full = try await bench.python(make(100_000), limits: limits, outputs: .disk)
      let lines = full.stdout.split(separator: "\n").compactMap { Int32($0) }
      #expect(lines.first == ENOSPC && (100...140).contains(lines.last ?? 0), "\(full.stdout)")
      #expect(full.outcome == .outputLimit)
    }
  }

  /// Also when the worker, the warden or the host's disk ends first.
  @Test func nothingIsLeft() async throws {
    let scratch = try Scratch()
    let before = try Host(scratch)
    let sandbox = try await Sandbox.start(Bench.configuration(scratch))
    let bench = Bench(sandbox: sandbox, scratch: scratch, approvedRoot: scratch.path + "/approved")
    let free = try Self.free(scratch)
    let taken: Int64 = 512 << 20
    // Others write to this disk and delete from it meanwhile.
    let some = UInt64(taken / 2)
    do {
      let limits = Self.limits(output: taken)
      let (first, stage) = try await bench.start(
        ["/usr/bin/bash", "-c", "head -c 100M /dev/zero > /output/some; echo; sleep 300"], limits: limits,
        outputs: .disk)
      defer { stage.remove() }
      for await _ in first.output { break }
      #expect(try Host(scratch).bound.count == before.bound.count + 1)
      #expect(try Host(scratch).mounts == before.mounts, "no mount is to be seen outside")
      #expect(try names(in: scratch.path + "/state/outputs") == [])
      #expect(try Self.free(scratch) + some < free, "its blocks are taken at the start")
      kill(sandbox.facts.wardenProcessID, SIGKILL)
      await #expect(throws: SandboxError.self) { try await first.report() }
      #expect(try await eventually { try processes(of: first.uid).isEmpty && Host(scratch).bound == before.bound })
      await sandbox.shutdown()
    }
    #expect(try await eventually { try Self.free(scratch) + some > free }, "the disk has its blocks back")
    #expect(try names(in: scratch.path + "/state/outputs") == [])
  }

  @Test func aUsedOneIsGone() async throws {
    try await withBench { (bench) async throws in
      let before = try Host(bench.scratch)
      for _ in 0..<6 {
        let ran = try await bench.bash("echo > /output/file", limits: Self.limits(output: 1 << 20), outputs: .disk)
        #expect(ran.outcome == .succeeded)
        ran.report.discardOutputs()
      }
      #expect(try await eventually { try Host(bench.scratch) == before })
    }
  }

  @Test func aFullDiskIsFoundBeforeTheJob() async throws {
    try await withBench { (bench) async throws in
      let scratch = bench.scratch
      let free = try Self.available(scratch)
      let least = Task {
        var least = free
        while !Task.isCancelled {
          least = min(least, try Self.available(scratch))
          try? await Task.sleep(for: .milliseconds(1))
        }
        return least
      }
      let error = await #expect(throws: SandboxError.self) {
        try await bench.run(["/usr/bin/true"], limits: Self.limits(output: 1 << 43), outputs: .disk)
      }
      least.cancel()
      #expect(try await least.value > free / 2, "who asks for too much takes the disk from nobody")
      #expect(
        error?.message.hasPrefix("outputs.disk: preallocate") == true && error?.isJobsFault == false, "\(error as Any)")
      #expect([ENOSPC, EFBIG].contains(error?.errno))
      #expect(error?.fix?.contains("limits.output") == true)
      #expect(try await bench.run(["/usr/bin/true"], outputs: .disk).outcome == .succeeded)
    }
  }

  /// A directory in memory would be the memory that a policy wants to spare.
  @Test func memoryIsNoDisk() async throws {
    let scratch = try Scratch()
    let state = try scratch.directory("state")
    try SystemError.check(mount("tmpfs", state, "tmpfs", 0, "size=64m"), "mount tmpfs")
    defer { umount2(state, Int32(MNT_DETACH)) }
    let sandbox = try await Sandbox.start(Bench.configuration(scratch))
    let bench = Bench(sandbox: sandbox, scratch: scratch, approvedRoot: scratch.path + "/approved")
    #expect(!sandbox.facts.diskOutputs.holds && !sandbox.facts.diskOutputs.isRequired)
    let error = await #expect(throws: SandboxError.self) { try await bench.run(["/usr/bin/true"], outputs: .disk) }
    #expect(error?.message.contains("lies in memory") == true && error?.fix?.contains("--data") == true)
    #expect(try await bench.run(["/usr/bin/true"]).outcome == .succeeded)
    await sandbox.shutdown()
  }

  @Test func doctorTriesIt() async throws {
    let scratch = try Scratch()
    let findings = await HostReport.doctor(Bench.configuration(scratch))
    let finding = findings.first { $0.control == "outputs.disk" }
    #expect(finding?.holds == true && finding?.isRequired == false, "\(finding as Any)")
  }
}
