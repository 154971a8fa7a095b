#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// RESOLVE_* of openat2(2), as constants Swift can read.
enum {
  CORDON_RESOLVE_NO_XDEV = 0x01,
  CORDON_RESOLVE_NO_MAGICLINKS = 0x02,
  CORDON_RESOLVE_NO_SYMLINKS = 0x04,
  CORDON_RESOLVE_BENEATH = 0x08,
  CORDON_RESOLVE_IN_ROOT = 0x10,
};

/// Most descriptors that travel with one packet here.
enum { CORDON_PACKET_DESCRIPTORS = 24 };

/// O_PATH, which glibc hides behind _GNU_SOURCE.
extern const int cordon_o_path;

/// openat2(2). Any thread, any time.
int cordon_openat2(int directory, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);

/// memfd_create(2) with close-on-exec and sealing allowed. Any thread, any time.
int cordon_memfd(const char *name);

/// Adds the seals that make a memfd's bytes and size final. Any thread, any time.
int cordon_memfd_seal(int descriptor);

/// 0 when the descriptor is a memfd whose bytes and size are final; reading it then never waits. Any thread, any time.
int cordon_memfd_sealed(int descriptor);

/// A connected pair of AF_UNIX SOCK_SEQPACKET sockets, close-on-exec. Any thread, any time.
int cordon_packet_pair(int pair[2]);

/// A pipe, close-on-exec: reading end, writing end. Any thread, any time.
int cordon_pipe(int pair[2]);

/// Sends one packet with up to CORDON_PACKET_DESCRIPTORS descriptors; never raises SIGPIPE. Returns the bytes sent.
/// Any thread, any time.
ssize_t cordon_send_packet(int socket, const void *bytes, size_t length, const int *descriptors, size_t count);

/// Receives one packet. Descriptors arrive close-on-exec in `descriptors`, their number in `count`. Returns the
/// packet's length, 0 at end of file. A packet or descriptor list that was cut is refused with EMSGSIZE and its
/// descriptors are closed. Any thread, any time.
ssize_t cordon_receive_packet(int socket, void *bytes, size_t capacity, int descriptors[CORDON_PACKET_DESCRIPTORS],
                              size_t *count);

/// Blocks and inodes of the filesystem of a descriptor, from fstatfs(2). Any thread, any time.
int cordon_filesystem_space(int descriptor, uint64_t *blocks, uint64_t *blocks_free, uint64_t *inodes,
                            uint64_t *inodes_free);

/// syncfs(2): the filesystem that holds the descriptor's file. Any thread, any time.
int cordon_sync_filesystem(int descriptor);

/// close_range(2): closes the descriptors first..last. Any thread; other threads lose theirs too.
int cordon_close_range(unsigned first, unsigned last);

/// close_range(2) with CLOSE_RANGE_CLOEXEC: they stay open until the next execve. Any thread, any time.
int cordon_cloexec_range(unsigned first, unsigned last);

/// close_range(2) with CLOSE_RANGE_UNSHARE: a table of the calling process's own with the descriptors below `first` alone.
/// Any thread; it no longer shares descriptors with anybody.
int cordon_own_descriptors(unsigned first);

/// dup3(2). Any thread, any time.
int cordon_copy_descriptor(int descriptor, int number, int close_on_exec);
