/// The filter of the containers: an allow list of the size and kind that container engines ship, so that crun and
/// runc compile and load what they do in use. Namespaces may not be made; everything unnamed fails.
enum OCIFilter {
  static let allowed: [String] = [
    // Files and descriptors.
    """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek sendfile copy_file_range splice tee
    fallocate ftruncate truncate fsync fdatasync sync_file_range fadvise64 readahead open openat openat2 creat close
    close_range dup dup2 dup3 fcntl flock pipe pipe2 memfd_create eventfd eventfd2 access faccessat faccessat2 stat
    fstat lstat newfstatat statx statfs fstatfs readlink readlinkat getdents getdents64 mkdir mkdirat rmdir unlink
    unlinkat rename renameat renameat2 link linkat symlink symlinkat chmod fchmod fchmodat chown fchown lchown fchownat
    utime utimes utimensat futimesat umask chdir fchdir getcwd mknod mknodat getxattr lgetxattr fgetxattr listxattr
    llistxattr flistxattr setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr ioctl sync syncfs
    inotify_init inotify_init1 inotify_add_watch inotify_rm_watch io_setup io_destroy io_getevents io_submit io_cancel
    """,
    // Memory, processes, scheduling, signals, time.
    """
    mmap munmap mprotect mremap madvise brk msync mincore mlock mlock2 munlock mlockall munlockall pkey_alloc pkey_free
    pkey_mprotect membarrier fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill pidfd_open
    pidfd_send_signal getpid getppid gettid getpgid setpgid getpgrp getsid setsid set_tid_address set_robust_list
    get_robust_list futex futex_waitv rseq arch_prctl prctl capget capset restart_syscall sched_yield sched_getaffinity
    sched_setaffinity sched_getparam sched_setparam sched_getscheduler sched_setscheduler sched_getattr sched_setattr
    sched_get_priority_max sched_get_priority_min sched_rr_get_interval getpriority setpriority ioprio_get ioprio_set
    getcpu getrlimit setrlimit prlimit64 getrusage times sysinfo uname rt_sigaction rt_sigprocmask rt_sigreturn
    rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo rt_sigsuspend sigaltstack pause signalfd signalfd4
    alarm clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time timer_create timer_settime
    timer_gettime timer_getoverrun timer_delete timerfd_create timerfd_settime timerfd_gettime setitimer getitimer
    """,
    // Waiting, identity, sockets, System V and POSIX queues, confinement.
    """
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 getuid geteuid
    getgid getegid getgroups setgroups getresuid getresgid setuid setgid setreuid setregid setresuid setresgid setfsuid
    setfsgid socket socketpair bind listen accept accept4 connect getsockname getpeername getsockopt setsockopt sendto
    recvfrom sendmsg recvmsg sendmmsg recvmmsg shutdown shmget shmat shmctl shmdt semget semop semctl semtimedop msgget
    msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr getrandom seccomp
    landlock_create_ruleset landlock_add_rule landlock_restrict_self
    """,
  ].flatMap { $0.split { $0 == " " || $0 == "\n" }.map(String.init) }

  /// CLONE_NEW* in the flags of clone(2).
  static let namespaceFlags: Int64 = 0x7E02_0000

  /// runc knows no word for the machine's own.
  static var architecture: String {
    #if arch(arm64)
      "SCMP_ARCH_AARCH64"
    #else
      "SCMP_ARCH_X86_64"
    #endif
  }
}
