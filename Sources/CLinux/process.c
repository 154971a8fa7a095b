#define _GNU_SOURCE
#include "CLinuxProcess.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

_Static_assert(CORDON_RLIMIT_FSIZE == RLIMIT_FSIZE && CORDON_RLIMIT_CORE == RLIMIT_CORE &&
                   CORDON_RLIMIT_NOFILE == RLIMIT_NOFILE && CORDON_RLIMIT_MEMLOCK == RLIMIT_MEMLOCK &&
                   CORDON_RLIMIT_SIGPENDING == __RLIMIT_SIGPENDING && CORDON_RLIMIT_MSGQUEUE == __RLIMIT_MSGQUEUE &&
                   CORDON_RLIMIT_NICE == __RLIMIT_NICE && CORDON_RLIMIT_RTPRIO == __RLIMIT_RTPRIO,
               "resource numbers");

/// clone3(2) whose child runs `run(context)` on the stack in `arguments`. By hand, because the C library's clone() knows
/// nothing of cgroups, and its syscall() would return in the child over a frame that is the caller's.
static pid_t clone_onto_stack(struct clone_args *arguments, void (*run)(void *context), void *context) {
#if defined(__x86_64__)
  register void (*body)(void *) __asm__("r8") = run;
  register void *argument __asm__("r9") = context;
  long result = SYS_clone3;
  __asm__ volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"
      "mov %%r9, %%rdi\n\t"
      "call *%%r8\n\t"
      "hlt\n"
      "1:"
      : "+a"(result)
      : "D"(arguments), "S"(sizeof *arguments), "r"(body), "r"(argument)
      : "rcx", "r11", "memory", "cc");
#elif defined(__aarch64__)
  register long result __asm__("x0") = (long)arguments;
  register long size __asm__("x1") = sizeof *arguments;
  register void (*body)(void *) __asm__("x9") = run;
  register void *argument __asm__("x10") = context;
  register long number __asm__("x8") = SYS_clone3;
  __asm__ volatile(
      "svc 0\n\t"
      "cbnz x0, 1f\n\t"
      "mov x29, xzr\n\t"
      "mov x0, x10\n\t"
      "blr x9\n\t"
      "brk 0\n"
      "1:"
      : "+r"(result)
      : "r"(size), "r"(body), "r"(argument), "r"(number)
      : "x30", "memory", "cc");
#else
#error "clone3 with a stack is written for x86-64 and arm64"
#endif
  if (result >= 0) return (pid_t)result;
  errno = (int)-result;
  return -1;
}

/// Deep enough for what a child runs before it executes; below it a page that ends it instead of running over.
enum { STACK = 1 << 20, GUARD = 1 << 16 };

static char *reserved_stack(char **slot) {
  if (*slot) return *slot;
  char *memory = mmap(NULL, GUARD + STACK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) return NULL;
  if (mprotect(memory + GUARD, STACK, PROT_READ | PROT_WRITE)) return NULL;
  return *slot = memory + GUARD;
}

/// Of what ends on a stack of ours without returning. The address sanitizer would clear its marks off the caller's stack
/// then, does not know this one, and leaves them for the next child to trip over. What returns clears its own.
#define LEAVES_ITS_STACK __attribute__((no_sanitize("address")))

/// In the child, on its own stack.
LEAVES_ITS_STACK static void prepare_and_execute(void *context) {
  struct cordon_spawn *spawn = context;
  if (spawn->prepare(spawn->context)) {
    if (spawn->path) {
      execve(spawn->path, spawn->arguments, spawn->environment);
    } else {
      syscall(SYS_execveat, spawn->program, "", spawn->arguments, spawn->environment, AT_EMPTY_PATH);
    }
    spawn->cause = errno;
  }
  _exit(127);
}

pid_t cordon_spawn(uint64_t flags, int cgroup, int *pidfd, struct cordon_spawn *spawn) {
  static char *stack;
  if (!reserved_stack(&stack)) return -1;
  // With CLONE_PARENT the signal of the caller's own end is taken.
  struct clone_args arguments = {.flags = flags | CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_PIDFD,
                                 .pidfd = (uint64_t)(uintptr_t)pidfd,
                                 .exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD,
                                 .stack = (uint64_t)(uintptr_t)stack,
                                 .stack_size = STACK};
  if (cgroup >= 0) {
    arguments.flags |= CLONE_INTO_CGROUP;
    arguments.cgroup = (uint64_t)cgroup;
  }
  return clone_onto_stack(&arguments, prepare_and_execute, spawn);
}

struct beside {
  int member, cgroup, cause;
  int *pidfd;
  pid_t pid;
  struct cordon_spawn *spawn;
};

/// In a process that shares memory and descriptors with the caller, which waits for its end.
LEAVES_ITS_STACK static void enter_and_spawn(void *context) {
  struct beside *beside = context;
  if (setns(beside->member, CLONE_NEWPID) == 0) {
    beside->pid = cordon_spawn(CLONE_PARENT, beside->cgroup, beside->pidfd, beside->spawn);
  }
  beside->cause = errno;
  _exit(0);
}

pid_t cordon_spawn_within(int member, int own, int cgroup, int *pidfd, struct cordon_spawn *spawn) {
  if (setns(member, CLONE_NEWPID)) return -1;
  pid_t pid = cordon_spawn(0, cgroup, pidfd, spawn);
  int cause = errno;
  // Whatever this process made next would be that cell's.
  if (setns(own, CLONE_NEWPID)) _exit(1);
  errno = cause;
  return pid;
}

pid_t cordon_spawn_beside(int member, int cgroup, int *pidfd, struct cordon_spawn *spawn) {
  static char *stack;
  if (!reserved_stack(&stack)) return -1;
  struct beside beside = {.member = member, .cgroup = cgroup, .pidfd = pidfd, .pid = -1, .spawn = spawn};
  struct clone_args arguments = {.flags = CLONE_VM | CLONE_VFORK | CLONE_FILES,
                                 .exit_signal = SIGCHLD,
                                 .stack = (uint64_t)(uintptr_t)stack,
                                 .stack_size = STACK};
  pid_t between = clone_onto_stack(&arguments, enter_and_spawn, &beside);
  if (between < 0) return -1;
  while (waitpid(between, NULL, 0) < 0 && errno == EINTR) {
  }
  errno = beside.cause;
  return beside.pid;
}

pid_t cordon_fork(int *pidfd) {
  struct clone_args arguments = {
      .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)pidfd, .exit_signal = SIGCHLD};
  return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

pid_t cordon_fork_beside(int member, int cgroup, int *pidfd) {
  if (setns(member, CLONE_NEWPID)) return -1;
  struct clone_args arguments = {.flags = CLONE_PARENT | CLONE_PIDFD | CLONE_INTO_CGROUP,
                                 .pidfd = (uint64_t)(uintptr_t)pidfd,
                                 .cgroup = (uint64_t)cgroup};
  // The C library remembers the number of its thread where the kernel is told to put it; in the new namespace it is
  // another. Kernels without checkpoints do not say where that is, and then a stale one is kept, as after any raw fork.
  int *thread = NULL;
  if (prctl(PR_GET_TID_ADDRESS, &thread, 0, 0, 0) == 0 && thread) {
    arguments.flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    arguments.child_tid = (uint64_t)(uintptr_t)thread;
  }
  return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

int cordon_peek(pid_t pid, int *code, int *is_signal) {
  siginfo_t information = {0};
  int status;
  do {
    status = waitid(P_PID, (id_t)pid, &information, WEXITED | WNOHANG | WNOWAIT);
  } while (status < 0 && errno == EINTR);
  if (status < 0) return -1;
  *code = information.si_status;
  *is_signal = information.si_code != CLD_EXITED;
  return information.si_pid != 0;
}

int cordon_unshare(int flags) { return unshare(flags); }

int cordon_setns(int descriptor, int flags) { return setns(descriptor, flags); }

int cordon_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int cordon_pidfd_send_signal(int pidfd, int signal) {
  return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

int cordon_die_with_parent(void) { return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); }

int cordon_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }

const char *cordon_invocation_name(void) { return program_invocation_name; }

int cordon_dumpable(void) { return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }

int cordon_set_name(const char *name) { return prctl(PR_SET_NAME, name, 0, 0, 0); }

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
  cordon_unblock_signals();
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

static void nothing(int number) { (void)number; }

int cordon_survive_signal(int number) {
  struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESTART};
  return sigaction(number, &action, NULL);
}

int cordon_unblock_signals(void) {
  sigset_t none;
  sigemptyset(&none);
  return sigprocmask(SIG_SETMASK, &none, NULL);
}

int cordon_termination_descriptor(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  if (sigprocmask(SIG_BLOCK, &set, NULL)) return -1;
  return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}
