#define _GNU_SOURCE
#include "CLinuxMount.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(CORDON_MOUNT_RDONLY == MOUNT_ATTR_RDONLY && CORDON_MOUNT_NOSUID == MOUNT_ATTR_NOSUID &&
                   CORDON_MOUNT_NODEV == MOUNT_ATTR_NODEV && CORDON_MOUNT_NOEXEC == MOUNT_ATTR_NOEXEC,
               "mount attributes");

// mount(2) has the same bits for these as mount_setattr(2).
_Static_assert(CORDON_MOUNT_RDONLY == MS_RDONLY && CORDON_MOUNT_NOSUID == MS_NOSUID && CORDON_MOUNT_NODEV == MS_NODEV &&
                   CORDON_MOUNT_NOEXEC == MS_NOEXEC,
               "mount flags");

int cordon_mount(const char *filesystem, const char *path, uint64_t attributes, const char *options) {
  return mount(filesystem, path, filesystem, attributes, options);
}

int cordon_mount_private(void) { return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL); }

int cordon_mount_clone(int directory, const char *path, int recursive) {
  return open_tree(directory, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0));
}

int cordon_mount_attributes(int descriptor, uint64_t attributes, int recursive) {
  struct mount_attr change = {.attr_set = attributes};
  return mount_setattr(descriptor, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &change, sizeof change);
}

int cordon_mount_attach(int mount, int directory, const char *path) {
  return move_mount(mount, "", directory, path, MOVE_MOUNT_F_EMPTY_PATH);
}

int cordon_mount_open(const char *filesystem) { return fsopen(filesystem, FSOPEN_CLOEXEC); }

int cordon_mount_option(int context, const char *key, const char *value) {
  return fsconfig(context, FSCONFIG_SET_STRING, key, value, 0);
}

int cordon_mount_flag(int context, const char *key) { return fsconfig(context, FSCONFIG_SET_FLAG, key, NULL, 0); }

int cordon_mount_create(int context, uint64_t attributes) {
  if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0)) return -1;
  return fsmount(context, FSMOUNT_CLOEXEC, (unsigned)attributes);
}

int cordon_unmount(const char *path) { return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW); }

int cordon_pivot_here(void) {
  if (syscall(SYS_pivot_root, ".", ".")) return -1;
  if (umount2(".", MNT_DETACH)) return -1;
  return chdir("/");
}
