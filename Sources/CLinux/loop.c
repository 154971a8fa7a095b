#define _GNU_SOURCE
#include "CLinuxLoop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

int cordon_nameless_file(int directory) {
  return openat(directory, ".", O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
}

int cordon_preallocate(int descriptor, uint64_t bytes) {
  int status;
  do status = fallocate(descriptor, 0, 0, (off_t)bytes);
  while (status && errno == EINTR);
  return status;
}

int cordon_filesystem_is_memory(int descriptor) {
  struct statfs status;
  if (fstatfs(descriptor, &status)) return -1;
  return status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC;
}

int cordon_loop_free(int control) { return ioctl(control, LOOP_CTL_GET_FREE); }

int cordon_loop_configure(int device, int file) {
  // Any name would do; this one says whose it is in losetup's list.
  struct loop_config configuration = {
      .fd = (uint32_t)file,
      .block_size = 4096,
      .info = {.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO, .lo_file_name = "cordon-output"}};
  return ioctl(device, LOOP_CONFIGURE, &configuration);
}

int cordon_filesystem_abandon(int descriptor) {
  // FS_IOC_SHUTDOWN without flushing anything; older headers have no name for either.
  const uint32_t without_flush = 2;
  return ioctl(descriptor, _IOR('X', 125, uint32_t), &without_flush);
}
