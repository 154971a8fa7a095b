// Theory of operation
//
// What a cell's two processes execute before there is a job. The warden makes both as vfork(2) does, in its own memory, and
// they must leave that; this program is so small that to execute it costs a tenth of a fork of the warden, and a cell
// that waits has a few pages. By then the process has given up everything: uid, capabilities, files, system calls.
//
//   init NAME   reaps, until it is killed
//   job NAME    waits for one order on the socket, executes what it says
//
// The file is a sealed memory file of the warden's that nobody may read, so the kernel makes its processes not dumpable.
// NAME is what the kernel calls the process: a word that the warden drew by lot and no job knows, by which it tells
// a process that died before it became the job from one that ended as the job.

#include "roles.h"

static int is(const char *word, const char *other) {
  while (*word && *word == *other) word++, other++;
  return *word == *other;
}

/// `stack` is as the kernel leaves it: the number of arguments, then the arguments.
_Noreturn __attribute__((used)) void begin(const long *stack) {
  char *const *arguments = (char *const *)(stack + 1);
  if (stack[0] == 2 && is(arguments[0], "init")) reap();
  if (stack[0] == 2 && is(arguments[0], "job")) wait_for_order(arguments[1]);
  leave(2);
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n\thlt\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tmov x0, sp\n\tbl begin\n\tbrk 0\n");
#endif
