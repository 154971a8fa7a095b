#pragma once

/// A non-blocking, close-on-exec eventfd with counter 0. Any thread, any time.
int cordon_eventfd(void);

/// Names the calling thread; at most 15 bytes are kept. Any thread, any time.
void cordon_name_thread(const char *name);
