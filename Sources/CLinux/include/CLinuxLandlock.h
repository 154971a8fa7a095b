#pragma once

#include <stdint.h>

/// Rights of Landlock on files, by the kernel's numbers; the headers of Debian 12 know them up to LANDLOCK_TRUNCATE.
enum {
  CORDON_LANDLOCK_EXECUTE = 1 << 0,
  CORDON_LANDLOCK_WRITE_FILE = 1 << 1,
  CORDON_LANDLOCK_READ_FILE = 1 << 2,
  CORDON_LANDLOCK_READ_DIRECTORY = 1 << 3,
  CORDON_LANDLOCK_REMOVE_DIRECTORY = 1 << 4,
  CORDON_LANDLOCK_REMOVE_FILE = 1 << 5,
  CORDON_LANDLOCK_MAKE_CHARACTER_DEVICE = 1 << 6,
  CORDON_LANDLOCK_MAKE_DIRECTORY = 1 << 7,
  CORDON_LANDLOCK_MAKE_FILE = 1 << 8,
  CORDON_LANDLOCK_MAKE_SOCKET = 1 << 9,
  CORDON_LANDLOCK_MAKE_FIFO = 1 << 10,
  CORDON_LANDLOCK_MAKE_BLOCK_DEVICE = 1 << 11,
  CORDON_LANDLOCK_MAKE_LINK = 1 << 12,
  CORDON_LANDLOCK_REFER = 1 << 13,
  CORDON_LANDLOCK_TRUNCATE = 1 << 14,
  CORDON_LANDLOCK_DEVICE_IOCTL = 1 << 15,
};

/// Version of the kernel's Landlock, from 1; -1 where it has none or it is off. Any thread, any time.
int cordon_landlock_version(void);

/// A rule set that decides on the rights of `files`, and from version 4 on TCP `network`, from version 6 on `scopes`.
/// Returns a close-on-exec descriptor. Any thread, any time.
int cordon_landlock_rules(int version, uint64_t files, uint64_t network, uint64_t scopes);

/// Grants `rights` on what `path` (a descriptor, O_PATH will do) names and on everything beneath. Any thread, any time.
int cordon_landlock_allow(int rules, int path, uint64_t rights);

/// Puts the calling thread under the rules for good. Needs no_new_privs.
int cordon_landlock_restrict(int rules);
