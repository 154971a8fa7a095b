#pragma once

#include "calls.h"

/// Process 1 of a cell: takes the status of whatever the job orphans. Ends by SIGKILL alone.
_Noreturn void reap(void);

/// The process that becomes the job. Ends with 0 when its socket does without an order.
_Noreturn void wait_for_order(const char *name);
