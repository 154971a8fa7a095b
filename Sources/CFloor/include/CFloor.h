#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// One group that the program is put into: a directory of one hierarchy, and what is written to a file of the new group.
struct floor_group {
  int parent;
  /// What takes a process in; null: the process is cloned into the group.
  const char *tasks;
  /// File and content of the limit; null: none.
  const char *limit;
  const char *value;
};

enum { FLOOR_GROUPS = 4 };

struct floor_run {
  struct floor_group groups[FLOOR_GROUPS];
  size_t count;
  const char *name;
  char *const *arguments;
  char *const *environment;
};

/// Makes the groups, runs the program in them and in fresh mount, pid, ipc, uts, network and cgroup namespaces, and waits
/// for it: what the kernel takes for these things alone, with nothing mounted, given up or looked at. Returns the
/// wait status, or -1 with errno. Any thread: the child touches no memory but its own stack.
int floor_in(const struct floor_run *run);

/// Removes the groups; 0, or -1 with errno EBUSY while the kernel holds one.
int floor_remove(const struct floor_run *run);

/// A process that waits for a byte on the pipe whose end is put into `go`, and then executes: one at a time for each slot, of
/// which there are eight. It shares the caller's memory until then, so that the execve has nothing to take down.
/// `arguments` and `environment` have to stay. Returns its pid, or -1.
pid_t floor_wait(int slot, char *const *arguments, char *const *environment, int *go);
