#include "roles.h"

#include <errno.h>
#include <signal.h>

_Noreturn void reap(void) {
  // Blocked by who executed this, so that a signal for an orphan that ends meanwhile is kept. The kernel's set has 8 bytes.
  const uint64_t child = 1u << (SIGCHLD - 1);
  for (;;) {
    // No children: none may come before the job orphans one, and then there is a signal for it.
    if (call(SYS_wait4, -1, 0, 0, 0) == -ECHILD) call(SYS_rt_sigtimedwait, &child, 0, 0, sizeof child);
  }
}
