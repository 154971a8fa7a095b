#pragma once

#include <stddef.h>
#include <stdint.h>

/// Events of epoll(7), by the kernel's numbers.
enum {
  CORDON_READABLE = 0x001,
  CORDON_WRITABLE = 0x004,
  CORDON_FAILED = 0x008,
  CORDON_HUNG_UP = 0x010,
};

/// One descriptor that has something to say: what it was registered with, and the events.
struct cordon_ready {
  uint64_t token;
  uint32_t events;
};

/// A new, close-on-exec epoll descriptor. Any thread, any time.
int cordon_readiness(void);

/// Watches a descriptor; hang-ups and errors are reported whatever `events` are. Any thread, any time.
int cordon_readiness_add(int readiness, int descriptor, uint32_t events, uint64_t token);

/// Changes what a watched descriptor is watched for. Any thread, any time.
int cordon_readiness_change(int readiness, int descriptor, uint32_t events, uint64_t token);

/// Watches it no more. Any thread, any time.
int cordon_readiness_remove(int readiness, int descriptor);

/// Waits for at most `timeout` milliseconds, -1 without end; returns how many entries of `ready` were filled, 0 also when
/// a signal came. At most 64 at a time. One thread at a time.
int cordon_readiness_wait(int readiness, struct cordon_ready *ready, int capacity, int timeout);
