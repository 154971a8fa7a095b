#pragma once

#include <stdint.h>

/// A file without a name on the filesystem of `directory`, readable and writable; it is gone with its last descriptor and
/// can be given no name. Any thread, any time.
int cordon_nameless_file(int directory);

/// fallocate(2) from the beginning: the blocks are the file's from here on. Any thread, any time.
int cordon_preallocate(int descriptor, uint64_t bytes);

/// 1 where the filesystem of `descriptor` keeps its files in memory, 0 where it does not. Any thread, any time.
int cordon_filesystem_is_memory(int descriptor);

/// Number of a loop device that nobody uses, made if there is none; `control` is /dev/loop-control. Others may take it
/// before the caller does. Any thread, any time.
int cordon_loop_free(int control);

/// Binds `file` to the loop device `device`, in blocks of 4096 bytes and past the page cache where the file's filesystem
/// can; the kernel undoes it when nobody has the device open or mounted any more. EBUSY: somebody took it first.
int cordon_loop_configure(int device, int file);

/// Tells the filesystem of `descriptor` that nothing of it will be wanted: what is not written yet never will be, and
/// every later access fails. Needs CAP_SYS_ADMIN; ENOTTY where the filesystem knows no such request. Any thread.
int cordon_filesystem_abandon(int descriptor);
