#define _GNU_SOURCE
#include "CLinuxLandlock.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(CORDON_LANDLOCK_MAKE_LINK == LANDLOCK_ACCESS_FS_MAKE_SYM &&
                   CORDON_LANDLOCK_REFER == LANDLOCK_ACCESS_FS_REFER,
               "rights");

/// The kernel's structure as of version 6; earlier kernels take a prefix of it.
struct rule_set {
  uint64_t files;
  uint64_t network;
  uint64_t scopes;
};

int cordon_landlock_version(void) {
  return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

int cordon_landlock_rules(int version, uint64_t files, uint64_t network, uint64_t scopes) {
  struct rule_set rules = {.files = files, .network = network, .scopes = scopes};
  size_t size = version >= 6   ? sizeof rules
                : version >= 4 ? offsetof(struct rule_set, scopes)
                               : offsetof(struct rule_set, network);
  int descriptor = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
  if (descriptor >= 0) fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  return descriptor;
}

int cordon_landlock_allow(int rules, int path, uint64_t rights) {
  struct landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = path};
  return (int)syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
}

int cordon_landlock_restrict(int rules) { return (int)syscall(SYS_landlock_restrict_self, rules, 0); }
