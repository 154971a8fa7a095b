#pragma once

#include <stdint.h>

/// Brings up the loopback interface of the caller's network namespace, over which it needs CAP_NET_ADMIN. Any thread,
/// any time.
int cordon_loopback_up(void);

/// A TCP socket of the caller's network namespace that listens on an IPv4 address and port, both in host order;
/// close-on-exec, non-blocking. `receive_bytes` bounds what each of its connections may receive unread. Any thread, any
/// time.
int cordon_listen(uint32_t address, uint16_t port, int backlog, int receive_bytes);
