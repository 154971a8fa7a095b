import CSeccomp
import Glibc
import Testing

@testable import Kernel

private let allow: UInt32 = 0x7FFF_0000
private let kill: UInt32 = 0x8000_0000

private func fails(_ errno: Int32) -> UInt32 { 0x0005_0000 | UInt32(errno) }

@Suite struct SeccompFilterTests {
  private let program: FilterProgram
  private let bytes: [UInt8]
  private let native = seccomp_arch_native()

  init() throws {
    bytes = try SeccompFilter.compile().instructions
    program = FilterProgram(bytes)
  }

  private func action(_ number: Int32, _ arguments: UInt64...) throws -> UInt32 {
    try program.action(number: UInt32(bitPattern: number), architecture: native, arguments: arguments)
  }

  private func number(_ name: String) -> Int32 { seccomp_syscall_resolve_name(name) }

  private func numbers(_ group: SystemCallPolicy.Group) -> Set<Int32> {
    Set(group.names.split { $0 == " " || $0 == "\n" }.map { number(String($0)) }.filter { $0 >= 0 })
  }

  @Test func compilingIsDeterministic() throws {
    #expect(try SeccompFilter.compile().instructions == bytes)
  }

  /// Every number a kernel may have has exactly the action the policy states, with arguments of zero.
  @Test func everyNumberHasItsStatedAction() throws {
    let allowed = (SystemCallPolicy.allowed + [SystemCallPolicy.localOnly]).reduce(into: Set<Int32>()) {
      $0.formUnion(numbers($1))
    }
    let absent = numbers(SystemCallPolicy.absent).union(numbers(SystemCallPolicy.watches))
    let unsupported = numbers(SystemCallPolicy.unsupported)
    #expect(allowed.isDisjoint(with: absent) && allowed.isDisjoint(with: unsupported))
    // With zeros, clone asks for no namespace, personality(0) is the plain one and fcntl duplicates; the others ask for
    // nothing known.
    let zeroAllowed = Set([number("clone"), number("personality"), number("fcntl")])
    for call in Int32(0)...1_024 {
      let expected =
        if allowed.contains(call) || zeroAllowed.contains(call) {
          allow
        } else if absent.contains(call)
          || (SystemCallPolicy.newestKnown + 1...SystemCallPolicy.newestAnswered).contains(UInt32(call))
        {
          fails(ENOSYS)
        } else if unsupported.contains(call) {
          fails(EOPNOTSUPP)
        } else {
          fails(EPERM)
        }
      #expect(try action(call) == expected, "system call \(call)")
    }
  }

  /// The calls that attacks begin with, by name, whatever the lists above say.
  @Test(arguments: [
    "unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "open_tree",
    "move_mount", "mount_setattr", "bpf", "perf_event_open", "userfaultfd", "kexec_load", "kexec_file_load",
    "init_module", "finit_module", "delete_module", "reboot", "ptrace", "process_vm_readv", "process_vm_writev",
    "pidfd_getfd", "kcmp", "fanotify_init", "open_by_handle_at", "name_to_handle_at", "quotactl", "swapon", "acct",
    "syslog", "settimeofday", "clock_settime", "sethostname", "iopl", "ioperm", "vmsplice", "capset", "setgroups",
  ])
  func privilegedCallsAreRefused(_ name: String) throws { #expect(try action(number(name)) == fails(EPERM)) }

  @Test(arguments: [
    "clone3", "io_uring_setup", "io_uring_enter", "io_uring_register", "add_key", "request_key", "keyctl",
    "inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch",
  ])
  func probedCallsAreAbsent(_ name: String) throws { #expect(try action(number(name)) == fails(ENOSYS)) }

  @Test func anotherABIKills() throws {
    let i386: UInt32 = 0x4000_0003
    for call in Int32(0)...512 {
      #expect(try program.action(number: UInt32(call), architecture: i386, arguments: []) == kill)
    }
    // x32 has the native architecture and bit 30 in the number.
    #expect(try action(0x4000_0000 | number("read")) == kill)
  }

  @Test func cloneMakesNoNamespace() throws {
    let clone = number("clone")
    #expect(try action(clone, UInt64(SIGCHLD)) == allow)
    #expect(try action(clone, 0x003D_0F00) == allow, "the flags of pthread_create")
    for flag: UInt64 in [
      0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000,
    ] {
      #expect(try action(clone, flag | UInt64(SIGCHLD)) == fails(EPERM))
      #expect(try action(clone, flag | 0x003D_0F00) == fails(EPERM))
    }
  }

  /// Families, types and protocols beyond those a kernel has; the type with the flags that may stand beside it.
  @Test func onlyLocalSocketsCanBeMade() throws {
    let (stream, datagram, packet): (UInt64, UInt64, UInt64) = (1, 2, 5)
    for family in UInt64(0)...50 {
      for type in UInt64(0)...15 {
        for transport in Array(UInt64(0)...40) + [132, 255, 262, 300] {
          let isLocal = family == 1 && [stream, datagram, packet].contains(type)
          for flags: UInt64 in [0, 0o2_004_000] {
            #expect(
              try action(number("socket"), family, type | flags, transport) == (isLocal ? allow : fails(EPERM)),
              "family \(family) type \(type) protocol \(transport)")
          }
          #expect(try action(number("socketpair"), family, type, transport) == (isLocal ? allow : fails(EPERM)))
        }
      }
    }
  }

  /// A job with grants has TCP over IPv4 beside local sockets, listens on nothing, and sets what clients set; all else is the
  /// same.
  @Test func grantsAddOneKindOfSocketAndTakeListening() throws {
    let granted = FilterProgram(try SeccompFilter.compile(granted: true).instructions)
    func ask(_ number: Int32, _ arguments: UInt64...) throws -> UInt32 {
      try granted.action(number: UInt32(bitPattern: number), architecture: native, arguments: arguments)
    }
    for family in UInt64(0)...50 {
      for type in UInt64(0)...15 {
        for transport in Array(UInt64(0)...40) + [132, 255, 262, 300] {
          let isLocal = family == 1 && [1, 2, 5].contains(type)
          let isTCP = family == 2 && type == 1 && [0, 6].contains(transport)
          for flags: UInt64 in [0, 0o2_004_000] {
            #expect(
              try ask(number("socket"), family, type | flags, transport) == (isLocal || isTCP ? allow : fails(EPERM)),
              "family \(family) type \(type) protocol \(transport)")
          }
        }
      }
    }
    var options: [[UInt64]] = []
    for level in UInt64(0)...300 {
      for option in UInt64(0)...100 where try ask(number("setsockopt"), 3, level, option) == allow {
        if level != 1 { options.append([level, option]) }
      }
    }
    #expect(options == [1, 2, 10, 11].map { [0, $0] } + [1, 2, 3, 4, 5, 6, 7, 8, 12, 18].map { [6, $0] })
    #expect(try ask(number("setsockopt"), 3, 1, 8) == allow, "SO_RCVBUF")
    #expect(try ask(number("listen"), 3, 1) == fails(EPERM))
    for call in Int32(0)...1_024 where ![number("listen"), number("setsockopt"), number("socket")].contains(call) {
      #expect(try ask(call) == action(call), "system call \(call)")
    }
  }

  /// The kernel reads these arguments as ints, so what stands in the upper half must change nothing.
  @Test func theUpperHalfOfAnIntDecidesNothing() throws {
    let upper: UInt64 = 0xDEAD_BEEF_0000_0000
    #expect(try action(number("ioctl"), 0, upper | 0x5412) == fails(EPERM), "TIOCSTI")
    #expect(try action(number("ioctl"), 0, upper | 0x541C) == fails(EPERM), "TIOCLINUX")
    #expect(try action(number("ioctl"), 0, upper | 0x5401) == allow, "TCGETS")
    #expect(try action(number("socket"), upper | 16, 3, 0) == fails(EPERM), "AF_NETLINK")
    #expect(try action(number("socket"), upper | 1, 1, 0) == allow)
    #expect(try action(number("personality"), upper | 0x0004_0000) == fails(EPERM), "ADDR_NO_RANDOMIZE")
    #expect(try action(number("personality"), 0xFFFF_FFFF) == allow, "query")
  }

  @Test func onlyListedRequestsPassIoctl() throws {
    var passed: [UInt64] = []
    for request in UInt64(0)...0xFFFF where try action(number("ioctl"), 0, request) == allow { passed.append(request) }
    // Of files, pipes and terminals, then of sockets; neither TIOCSTI (5412) nor TIOCLINUX (541C).
    let files: [UInt64] = [0x5401, 0x540F, 0x5411, 0x5413, 0x541B, 0x5421, 0x5429, 0x5450, 0x5451, 0x5452, 0x5460]
    let sockets: [UInt64] = [0x8910, 0x8912, 0x8913, 0x8915, 0x891B, 0x8921, 0x8927, 0x8933]
    #expect(passed == files + sockets)
    for request: UInt64 in [0x8008_6601, 0x4004_9409, 0x4020_940D] {
      #expect(try action(number("ioctl"), 0, request) == allow)
    }
    #expect(try action(number("ioctl"), 0, 0x4008_6602) == fails(EPERM), "FS_IOC_SETFLAGS")
  }

  /// A cell inherits the warden's program, so it must refuse nothing that a job may do; beyond that it allows the calls
  /// that cells are made with, and no network.
  @Test func theWardensProgramIsAsNarrowAsCellsAllow() throws {
    let warden = FilterProgram(try SeccompFilter.compileForWarden().instructions)
    func ask(_ number: Int32, _ arguments: UInt64...) throws -> UInt32 {
      try warden.action(number: UInt32(bitPattern: number), architecture: native, arguments: arguments)
    }
    let more = numbers(SystemCallPolicy.wardenAllowed)
    // keyctl is absent for jobs and refused to the warden; a job meets its own answer, because its program was loaded last.
    for call in Int32(0)...1_024 where call != number("keyctl") {
      let (job, own) = (try action(call), try ask(call))
      #expect(own == (more.contains(call) ? allow : job), "system call \(call)")
    }
    #expect(try ask(number("keyctl"), 1) == allow, "join a session keyring")
    #expect(try ask(number("keyctl"), 11) == fails(EPERM), "read a key")
    #expect(try ask(number("socket"), 2, 1) == allow, "listeners in cells")
    #expect(try ask(number("socket"), 2, 2) == fails(EPERM))
    #expect(try ask(number("socket"), 10, 1) == fails(EPERM))
    for name in [
      "bpf", "ptrace", "init_module", "kexec_load", "reboot", "perf_event_open", "open_by_handle_at", "swapon",
    ] {
      #expect(try ask(number(name)) == fails(EPERM), "\(name)")
    }
    #expect(try warden.action(number: 0, architecture: 0x4000_0003, arguments: []) == kill)
  }

  @Test func theInitsProgramExecutesOneDescriptor() throws {
    let filter = FilterProgram(try SeccompFilter.compileForInit(program: 4).instructions)
    func ask(_ name: String, _ arguments: UInt64...) throws -> UInt32 {
      try filter.action(number: UInt32(bitPattern: number(name)), architecture: native, arguments: arguments)
    }
    #expect(try ask("execveat", 4) == allow)
    #expect(try ask("execveat", 3) == fails(EPERM))
    for name in ["execve", "open", "openat", "socket", "dup", "fcntl", "clone", "kill", "mmap", "write"] {
      #expect(try ask(name, 4) == fails(EPERM), "\(name)")
    }
    #expect(try ask("wait4") == allow)
  }
}
