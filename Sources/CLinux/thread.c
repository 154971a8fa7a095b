#define _GNU_SOURCE
#include "CLinuxThread.h"

#include <sys/eventfd.h>
#include <sys/prctl.h>

int cordon_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

void cordon_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }
