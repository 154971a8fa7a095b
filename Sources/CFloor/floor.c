#define _GNU_SOURCE
#include "CFloor.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct child {
  const struct floor_run *run;
  int tasks[FLOOR_GROUPS];
};

static int execute(void *context) {
  const struct child *child = context;
  for (size_t index = 0; index < child->run->count; index++) {
    if (child->tasks[index] >= 0 && write(child->tasks[index], "0", 1) != 1) _exit(126);
  }
  execve(child->run->arguments[0], child->run->arguments, child->run->environment);
  _exit(127);
}

static int limit(int group, const struct floor_group *of) {
  if (!of->limit) return 0;
  int file = openat(group, of->limit, O_WRONLY | O_CLOEXEC);
  if (file < 0) return -1;
  ssize_t written = write(file, of->value, strlen(of->value));
  close(file);
  return written < 0 ? -1 : 0;
}

int floor_in(const struct floor_run *run) {
  _Alignas(16) char stack[16 << 10];
  struct child child = {.run = run, .tasks = {-1, -1, -1, -1}};
  int status = -1;
  for (size_t index = 0; index < run->count; index++) {
    const struct floor_group *group = &run->groups[index];
    if (mkdirat(group->parent, run->name, 0755)) goto end;
    int directory = openat(group->parent, run->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) goto end;
    int failed = limit(directory, group);
    if (!failed && group->tasks) failed = (child.tasks[index] = openat(directory, group->tasks, O_WRONLY | O_CLOEXEC)) < 0;
    close(directory);
    if (failed) goto end;
  }
  const int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP;
  pid_t pid = clone(execute, stack + sizeof stack, flags | CLONE_VM | CLONE_VFORK | SIGCHLD, &child);
  if (pid > 0) {
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
  }
end:;
  int cause = errno;
  for (size_t index = 0; index < run->count; index++) {
    if (child.tasks[index] >= 0) close(child.tasks[index]);
  }
  errno = cause;
  return status;
}

int floor_remove(const struct floor_run *run) {
  for (size_t index = 0; index < run->count; index++) {
    if (unlinkat(run->groups[index].parent, run->name, AT_REMOVEDIR) && errno != ENOENT) return -1;
  }
  return 0;
}

struct waiting {
  int wait;
  char *const *arguments;
  char *const *environment;
};

static int wait_and_execute(void *context) {
  const struct waiting *waiting = context;
  char byte;
  if (read(waiting->wait, &byte, 1) == 1) execve(waiting->arguments[0], waiting->arguments, waiting->environment);
  _exit(127);
}

pid_t floor_wait(int slot, char *const *arguments, char *const *environment, int *go) {
  enum { SLOTS = 8, STACK = 16 << 10 };
  static _Alignas(16) char stacks[SLOTS][STACK];
  static struct waiting waiting[SLOTS];
  int ends[2];
  if (slot < 0 || slot >= SLOTS || pipe2(ends, O_CLOEXEC)) return -1;
  waiting[slot] = (struct waiting){.wait = ends[0], .arguments = arguments, .environment = environment};
  pid_t pid = clone(wait_and_execute, stacks[slot] + STACK, CLONE_VM | SIGCHLD, &waiting[slot]);
  int cause = errno;
  close(ends[0]);
  if (pid < 0) close(ends[1]);
  errno = cause;
  *go = ends[1];
  return pid;
}
