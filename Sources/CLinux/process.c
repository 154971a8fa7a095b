#define _GNU_SOURCE
#include "CLinuxProcess.h"

#include <errno.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

_Static_assert(CORDON_RLIMIT_FSIZE == RLIMIT_FSIZE && CORDON_RLIMIT_CORE == RLIMIT_CORE &&
                   CORDON_RLIMIT_NOFILE == RLIMIT_NOFILE && CORDON_RLIMIT_MEMLOCK == RLIMIT_MEMLOCK &&
                   CORDON_RLIMIT_SIGPENDING == __RLIMIT_SIGPENDING && CORDON_RLIMIT_MSGQUEUE == __RLIMIT_MSGQUEUE &&
                   CORDON_RLIMIT_NICE == __RLIMIT_NICE && CORDON_RLIMIT_RTPRIO == __RLIMIT_RTPRIO,
               "resource numbers");

pid_t cordon_clone(uint64_t flags, int cgroup, int *pidfd) {
  struct clone_args arguments = {
      .flags = flags | CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)pidfd, .exit_signal = SIGCHLD};
  if (cgroup >= 0) {
    arguments.flags |= CLONE_INTO_CGROUP;
    arguments.cgroup = (uint64_t)cgroup;
  }
  return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

struct beside {
  int member, cgroup, cause;
  int *pidfd;
  pid_t pid;
  void (*run)(void *context);
  void *context;
};

/// In a process that shares memory and descriptors with the caller, which waits for its end.
static int enter_and_clone(void *argument) {
  struct beside *beside = argument;
  beside->pid = -1;
  if (setns(beside->member, CLONE_NEWPID) == 0) {
    struct clone_args arguments = {.flags = CLONE_PARENT | CLONE_PIDFD | CLONE_INTO_CGROUP,
                                   .pidfd = (uint64_t)(uintptr_t)beside->pidfd,
                                   .cgroup = (uint64_t)beside->cgroup};
    beside->pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    if (beside->pid == 0) beside->run(beside->context);
  }
  beside->cause = errno;
  return 0;
}

pid_t cordon_clone_beside(int member, int cgroup, int *pidfd, void (*run)(void *context), void *context) {
  // Deep enough for what the child runs on its copy of it.
  enum { STACK = 1 << 20 };
  struct beside beside = {
      .member = member, .cgroup = cgroup, .pidfd = pidfd, .run = run, .context = context};
  char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) return -1;
  pid_t between = clone(enter_and_clone, stack + STACK, CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, &beside);
  int cause = errno;
  if (between > 0) {
    while (waitpid(between, NULL, 0) < 0 && errno == EINTR) {
    }
    cause = beside.cause;
  }
  munmap(stack, STACK);
  errno = cause;
  return between < 0 ? -1 : beside.pid;
}

int cordon_unshare(int flags) { return unshare(flags); }

int cordon_setns(int descriptor, int flags) { return setns(descriptor, flags); }

int cordon_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int cordon_pidfd_send_signal(int pidfd, int signal) {
  return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

int cordon_die_with_parent(void) { return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); }

int cordon_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }

int cordon_not_dumpable(void) { return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }

int cordon_seccomp_load(const void *instructions, size_t bytes) {
  struct sock_fprog program = {.len = (unsigned short)(bytes / sizeof(struct sock_filter)),
                               .filter = (struct sock_filter *)instructions};
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

int cordon_become(uid_t uid, gid_t gid, int keep_groups) {
  if (!keep_groups && setgroups(0, NULL)) return -1;
  if (setresgid(gid, gid, gid)) return -1;
  return setresuid(uid, uid, uid);
}

void cordon_reset_signals(void) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  // SIGKILL, SIGSTOP and the two that glibc keeps refuse; they are at their default anyway.
  for (int signal = 1; signal < _NSIG; signal++) sigaction(signal, &action, NULL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

int cordon_new_session_keyring(void) {
  return syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 ? -1 : 0;
}

int cordon_limit(int resource, uint64_t value) {
  struct rlimit limit;
  if (getrlimit((__rlimit_resource_t)resource, &limit)) return -1;
  if (value < limit.rlim_max) limit.rlim_max = value;
  limit.rlim_cur = limit.rlim_max;
  return setrlimit((__rlimit_resource_t)resource, &limit);
}

int cordon_sethostname(const char *name) { return sethostname(name, strlen(name)); }

int cordon_loopback_up(void) {
  int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return -1;
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
  int status = ioctl(descriptor, SIOCSIFFLAGS, &request);
  int cause = errno;
  close(descriptor);
  errno = cause;
  return status;
}

int cordon_ignore_signal(int number) {
  struct sigaction action = {.sa_handler = SIG_IGN};
  return sigaction(number, &action, NULL);
}

int cordon_termination_descriptor(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  if (sigprocmask(SIG_BLOCK, &set, NULL)) return -1;
  return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}
