#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Namespace flags of clone3(2) and unshare(2), as constants Swift can read.
enum {
  CORDON_NEWNS = 0x00020000,
  CORDON_NEWCGROUP = 0x02000000,
  CORDON_NEWUTS = 0x04000000,
  CORDON_NEWIPC = 0x08000000,
  CORDON_NEWUSER = 0x10000000,
  CORDON_NEWPID = 0x20000000,
  CORDON_NEWNET = 0x40000000,
};

/// What a new process does: `prepare(context)`, and if that says so executes the file at `path`, or behind the
/// descriptor `program` where there is no path. `cause` is why that failed, 0 when it did not come to it.
struct cordon_spawn {
  int (*prepare)(void *context);
  void *context;
  const char *path;
  int program;
  char *const *arguments;
  char *const *environment;
  int cause;
};

/// A process that does so on a stack of its own, in the caller's memory and with its descriptors, while the caller waits
/// until it has executed or ended: as vfork(2), so that nothing of a large process is copied. `flags` are namespace flags;
/// the child starts in the v2 cgroup whose directory is `cgroup`, unless that is negative. Fills in a close-on-exec
/// pidfd. What `prepare` leaves in memory is the caller's, and so are its descriptors, until it takes a table of its own
/// (`cordon_own_descriptors`). It has to return, or what its frames hold is held for ever. Only in a process with one
/// thread; and no process but the caller may share this memory when the child becomes killable by others, because who is
/// killed in the C library leaves its locks taken.
pid_t cordon_spawn(uint64_t flags, int cgroup, int *pidfd, struct cordon_spawn *spawn);

/// As `cordon_spawn`, into the pid namespace of the process behind the pidfd `member`; the child is the caller's own all
/// the same. The namespace is entered by a process in between, because one that entered it itself could come back only
/// with privilege over the namespace it came from, which an ordinary user lacks.
pid_t cordon_spawn_beside(int member, int cgroup, int *pidfd, struct cordon_spawn *spawn);

/// The same without a process in between, where the caller has that privilege: `own` is a pidfd of the caller, which comes
/// back by it and ends if it cannot. Saves one such process.
pid_t cordon_spawn_within(int member, int own, int cgroup, int *pidfd, struct cordon_spawn *spawn);

/// fork(2) with a close-on-exec pidfd, by clone3(2): 0 in the child. Only in a process with one thread, because no fork
/// handlers run.
pid_t cordon_fork(int *pidfd);

/// fork(2) into the pid namespace of the process behind the pidfd `member` and the v2 cgroup whose directory is `cgroup`;
/// the child is not the caller's but its parent's. 0 in the child, with a close-on-exec pidfd in the parent. The caller's
/// later children begin in that namespace as well. Only in a process with one thread, because no fork handlers run.
pid_t cordon_fork_beside(int member, int cgroup, int *pidfd);

/// Whether a child has ended: 1 with its exit code or signal, 0 while it runs, -1. It is left to be reaped. Any time.
int cordon_peek(pid_t pid, int *code, int *is_signal);

/// unshare(2). Only in a process with one thread; of the network namespace also in a thread that does nothing else after.
int cordon_unshare(int flags);

/// setns(2): `flags` say which namespaces of the process behind a pidfd, or the kind of the one namespace file. Only in a
/// process with one thread, as for `cordon_unshare`. A pid namespace takes effect for children alone.
int cordon_setns(int descriptor, int flags);

/// pidfd_open(2). Any thread, any time.
int cordon_pidfd_open(pid_t pid);

/// pidfd_send_signal(2). Any thread, any time.
int cordon_pidfd_send_signal(int pidfd, int signal);

/// SIGKILL to the caller when the thread that made it ends. Has to be set again after a change of uid.
int cordon_die_with_parent(void);

/// no_new_privs for the calling thread. Any time.
int cordon_no_new_privileges(void);

/// The word that this program was executed by, argv[0]. Any time; needs no /proc, from which Swift reads arguments.
const char *cordon_invocation_name(void);

/// Sets the dumpable flag, which a change of uid clears: the process's files in /proc are its own again. Any time.
int cordon_dumpable(void);

/// What the kernel calls the calling thread; at most 15 bytes of it. Any time.
int cordon_set_name(const char *name);

/// Clears the dumpable flag: no ptrace by, and no /proc access for, processes without privilege. Any time.
int cordon_not_dumpable(void);

/// Installs a seccomp program (an array of struct sock_filter) for the calling thread. Needs no_new_privs.
int cordon_seccomp_load(const void *instructions, size_t bytes);

/// Sets real, effective and saved gid and uid of the process. `keep_groups` leaves the supplementary groups, which a
/// user namespace with one mapped gid cannot change. Only in a process with one thread.
int cordon_become(uid_t uid, gid_t gid, int keep_groups);

/// All signals to their default disposition, none blocked. Any thread; acts on the process.
void cordon_reset_signals(void);

/// A new, empty session keyring for the process; 0 when it was made. Any time.
int cordon_new_session_keyring(void);

/// Sets soft and hard limit of `resource`, never above the present hard limit. Any thread; acts on the process.
int cordon_limit(int resource, uint64_t value);

/// Resources for cordon_limit; glibc makes them an enum that Swift cannot pass as a number.
enum {
  CORDON_RLIMIT_FSIZE = 1,
  CORDON_RLIMIT_CORE = 4,
  CORDON_RLIMIT_NOFILE = 7,
  CORDON_RLIMIT_MEMLOCK = 8,
  CORDON_RLIMIT_SIGPENDING = 11,
  CORDON_RLIMIT_MSGQUEUE = 12,
  CORDON_RLIMIT_NICE = 13,
  CORDON_RLIMIT_RTPRIO = 14,
};

/// sethostname(2). Only inside an own UTS namespace.
int cordon_sethostname(const char *name);

/// Gives the signal a handler that does nothing. Not SIG_IGN, because that would outlive an execve. Any thread; acts on
/// the process.
int cordon_survive_signal(int signal);

/// No signal blocked for the calling thread. Any time.
int cordon_unblock_signals(void);

/// Blocks SIGTERM and returns a non-blocking close-on-exec signalfd for it. Only in a process with one thread.
int cordon_termination_descriptor(void);
