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
