import Glibc

// The job's system calls. An allow list: what is not named here fails with EPERM, and what a libc probes for and can
// do without fails with ENOSYS so that it falls back. Calls a newer kernel adds are probed like that too.
//
// Arguments are compared in their low 32 bits wherever the kernel reads an int: the upper half of the register is the
// caller's, and a comparison of all 64 bits could be passed by with garbage there.

/// What a job may ask of the kernel.
enum SystemCallPolicy {
  typealias Comparison = SeccompProgram.Comparison

  struct Group {
    /// Why these are allowed.
    var reason: String
    var names: String
  }

  /// Allowed whatever their arguments. Names an architecture lacks are passed over there.
  static let allowed: [Group] = [
    Group(
      reason: "contents of open files",
      names: """
        read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek sendfile copy_file_range splice
        tee fallocate ftruncate truncate fsync fdatasync sync_file_range fadvise64 readahead
        """),
    Group(
      reason: "descriptors",
      names: """
        open openat openat2 creat close close_range dup dup2 dup3 flock pipe pipe2 memfd_create eventfd eventfd2
        """),
    Group(
      reason: "names and attributes of files; mounts, modes and uids already bound what can be reached",
      names: """
        access faccessat faccessat2 stat fstat lstat newfstatat statx statfs fstatfs readlink readlinkat getdents
        getdents64 mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat chmod
        fchmod fchmodat chown fchown lchown fchownat utime utimes utimensat futimesat umask chdir fchdir getcwd mknod
        mknodat getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
        """),
    Group(
      reason: "own memory",
      names: """
        mmap munmap mprotect mremap madvise brk msync mincore mlock mlock2 munlock mlockall munlockall pkey_alloc
        pkey_free pkey_mprotect membarrier
        """),
    Group(
      reason: "processes and threads of the cell; the pid namespace and the process limit bound them",
      names: """
        fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill pidfd_open pidfd_send_signal getpid
        getppid gettid getpgid setpgid getpgrp getsid setsid set_tid_address set_robust_list get_robust_list futex
        futex_waitv rseq arch_prctl prctl capget restart_syscall
        """),
    Group(
      reason: "scheduling within what an unprivileged process may change",
      names: """
        sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_getscheduler sched_getattr
        sched_get_priority_max sched_get_priority_min sched_rr_get_interval getpriority setpriority ioprio_get getcpu
        """),
    Group(
      reason: "limits and accounting of itself",
      names: "getrlimit setrlimit prlimit64 getrusage times sysinfo uname"),
    Group(
      reason: "signals",
      names: """
        rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo
        rt_sigsuspend sigaltstack pause signalfd signalfd4 alarm
        """),
    Group(
      reason: "clocks and timers",
      names: """
        clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time timer_create timer_settime
        timer_gettime timer_getoverrun timer_delete timerfd_create timerfd_settime timerfd_gettime setitimer getitimer
        """),
    Group(
      reason: "waiting for descriptors",
      names: """
        poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
        """),
    Group(
      reason: "own identity; the kernel refuses any other without capabilities",
      names: """
        getuid geteuid getgid getegid getgroups getresuid getresgid setuid setgid setreuid setregid setresuid
        setresgid setfsuid setfsgid
        """),
    Group(
      reason: "sockets once made; which may be made is decided below, where they lead by the network namespace",
      names: """
        bind accept accept4 connect getsockname getpeername getsockopt sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg
        shutdown
        """),
    Group(
      reason: "System V objects of the cell's own ipc namespace",
      names: "shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl"),
    Group(reason: "randomness", names: "getrandom"),
    Group(
      reason: "a job may confine itself further",
      names: "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self"),
  ]

  /// Of jobs whose only sockets are local ones. A job with grants has internet sockets, and what a socket receives that
  /// listens, and whose connections nobody accepts, is charged to nobody (see `localKinds`): it listens on none at all, because
  /// a filter cannot see of which kind a socket is.
  static let localOnly = Group(reason: "local sockets are charged to the cell", names: "listen setsockopt")

  /// Instead, where a job has grants.
  static let granted: [(name: String, alternatives: [[Comparison]])] = [
    ("socket", localKinds + streamKinds),
    ("setsockopt", socketOptions),
  ]

  /// TCP over IPv4, to the listeners that the broker holds: IPPROTO_TCP, or 0, which is the same; not MPTCP.
  private static let streamKinds: [[Comparison]] = [0, 6].map { [.int(0, 2), type(stream), .int(2, $0)] }

  /// SOL_SOCKET as a whole, which local sockets have too; of IP and TCP what clients set to be quick or patient: IP_TOS,
  /// IP_TTL, IP_MTU_DISCOVER, IP_RECVERR; TCP_NODELAY, TCP_MAXSEG, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT,
  /// TCP_SYNCNT, TCP_LINGER2, TCP_QUICKACK, TCP_USER_TIMEOUT. Not TCP_ULP, TCP_REPAIR, TCP_MD5SIG and their like, which are the
  /// kernel's less trodden paths.
  private static let socketOptions: [[Comparison]] =
    [[.int(1, 1)]] + [1, 2, 10, 11].map { [.int(1, 0), .int(2, $0)] }
    + [1, 2, 3, 4, 5, 6, 7, 8, 12, 18].map { [.int(1, 6), .int(2, $0)] }

  /// What a warden may do beyond its jobs, which are under its filter as well.
  static let wardenAllowed = Group(
    reason: "to make, look into and end cells",
    names: """
      clone clone3 unshare setns mount umount2 open_tree move_mount mount_setattr fsopen fsconfig fsmount pivot_root capset
      setgroups sethostname readahead getxattr
      """)

  /// KEYCTL_JOIN_SESSION_KEYRING: for a new cell. LOOP_CTL_GET_FREE and LOOP_CONFIGURE: for outputs on a disk. SIOCSIFFLAGS and
  /// sockets of TCP: for the listeners in a cell (`CellNetwork`).
  static let wardenConditional: [(name: String, alternatives: [[Comparison]])] = [
    ("keyctl", [[.int(0, 1)]]), ("socket", localKinds + streamKinds),
    ("ioctl", ([0x4C82, 0x4C0A, 0x8914] + ioctls.map(\.request)).map { [.int(1, $0)] }),
  ]

  /// All that a cell's init needs once it has given up everything else.
  static let initAllowed = Group(
    reason: "to reap, to wait for the next orphan, to end",
    names: "wait4 waitid rt_sigtimedwait rt_sigreturn exit_group")

  /// Answered ENOSYS: libc and runtimes probe for these and fall back.
  static let absent = Group(
    reason: "surface with a history, or arguments behind a pointer that no filter can read",
    names: """
      clone3 io_uring_setup io_uring_enter io_uring_register add_key request_key keyctl io_setup io_destroy io_getevents
      io_submit io_cancel io_pgetevents mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
      memfd_secret process_mrelease set_mempolicy_home_node
      """)

  /// Absent as well: a cell's /usr and devices are the host's own inodes, so a watch on them would tell which
  /// programs the host and other cells run, and when.
  static let watches = Group(
    reason: "what others do with files that are shared read-only",
    names: "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch")

  /// System calls with larger numbers are unknown here: ENOSYS, as on a kernel that lacks them. 449 is futex_waitv.
  static let newestKnown: UInt32 = 450
  static let newestAnswered: UInt32 = 560

  /// Answered EOPNOTSUPP, which file tools take as a filesystem without extended attributes.
  static let unsupported = Group(
    reason: "extended attributes are unbounded kernel memory and never published",
    names: "setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr")

  /// Allowed when one of the alternatives holds; each is a conjunction.
  static let conditional: [(name: String, alternatives: [[Comparison]])] = [
    ("clone", [[Comparison(index: 0, mask: namespaceFlags, value: 0)]]),
    ("socket", localKinds),
    ("socketpair", localKinds),
    ("personality", [[.int(0, 0)], [.int(0, 0xFFFF_FFFF)]]),
    ("ioctl", ioctls.map { [.int(1, $0.request)] }),
    ("fcntl", fcntls.map { [.int(1, $0.command)] }),
  ]

  /// CLONE_NEW* of clone(2). CLONE_NEWTIME lies in the bits of the exit signal there and is out of reach.
  /// And CLONE_PARENT: the job's process is the warden's child, and would make others that the warden does not know.
  private static let namespaceFlags = (Namespaces.cell.union(.user)).rawValue | cloneParent
  private static let cloneParent: UInt64 = 0x8000

  private static let unixFamily: Int64 = 1

  /// The type of a socket without SOCK_CLOEXEC and SOCK_NONBLOCK, as the kernel masks it.
  private static func type(_ value: Int64) -> Comparison {
    Comparison(index: 1, mask: 0xF, value: UInt64(value))
  }

  private static let stream: Int64 = 1
  private static let datagram: Int64 = 2
  private static let sequencedPacket: Int64 = 5

  /// Local sockets alone; their buffers are charged to the cell on both cgroup layouts. Internet sockets lead nowhere in
  /// an empty network namespace, and their buffers escape the memory limit: v1 never charges UDP, and on both layouts
  /// the buffers of a TCP connection are charged only from accept(2) on. Connections that a listener did not accept held
  /// 2 GiB of the host's memory for a cell of 64 MiB on v1, 231 MiB on v2, where the host's tcp_mem ended it.
  ///
  /// The kernel takes the type SOCK_RAW for datagrams there, and no program needs that.
  private static let localKinds: [[Comparison]] = [stream, datagram, sequencedPacket].map {
    [.int(0, unixFamily), type($0)]
  }

  /// Commands on descriptors. Not among them: F_NOTIFY, which tells what others do with a directory as inotify does, and
  /// F_SETLEASE, which holds up who opens a file next.
  private static let fcntls: [(name: String, command: Int64)] = [
    ("F_DUPFD", 0), ("F_GETFD", 1), ("F_SETFD", 2), ("F_GETFL", 3), ("F_SETFL", 4), ("F_GETLK", 5), ("F_SETLK", 6),
    ("F_SETLKW", 7), ("F_SETOWN", 8), ("F_GETOWN", 9), ("F_SETSIG", 10), ("F_GETSIG", 11), ("F_SETOWN_EX", 15),
    ("F_GETOWN_EX", 16), ("F_OFD_GETLK", 36), ("F_OFD_SETLK", 37), ("F_OFD_SETLKW", 38), ("F_GETLEASE", 1_025),
    ("F_DUPFD_CLOEXEC", 1_030), ("F_SETPIPE_SZ", 1_031), ("F_GETPIPE_SZ", 1_032), ("F_ADD_SEALS", 1_033),
    ("F_GET_SEALS", 1_034),
  ]

  /// Requests that ordinary programs make on files, pipes, sockets and (to learn that they have none) terminals.
  /// What pushes input into a terminal (TIOCSTI, TIOCLINUX) and every device's own requests are not among them.
  private static let ioctls: [(name: String, request: Int64)] = [
    ("TCGETS", 0x5401), ("TIOCGPGRP", 0x540F), ("TIOCOUTQ", 0x5411), ("TIOCGWINSZ", 0x5413), ("FIONREAD", 0x541B),
    ("FIONBIO", 0x5421), ("TIOCGSID", 0x5429), ("FIONCLEX", 0x5450), ("FIOCLEX", 0x5451), ("FIOASYNC", 0x5452),
    ("FIOQSIZE", 0x5460), ("FS_IOC_GETFLAGS", 0x8008_6601), ("FICLONE", 0x4004_9409),
    ("FICLONERANGE", 0x4020_940D), ("SIOCGIFNAME", 0x8910), ("SIOCGIFCONF", 0x8912), ("SIOCGIFFLAGS", 0x8913),
    ("SIOCGIFADDR", 0x8915), ("SIOCGIFNETMASK", 0x891B), ("SIOCGIFMTU", 0x8921), ("SIOCGIFHWADDR", 0x8927),
    ("SIOCGIFINDEX", 0x8933),
  ]
}

extension SeccompProgram.Comparison {
  /// The kernel reads an int.
  static func int(_ index: UInt32, _ value: Int64) -> Self {
    Self(index: index, mask: 0xFFFF_FFFF, value: UInt64(bitPattern: value) & 0xFFFF_FFFF)
  }
}
