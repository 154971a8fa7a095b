#pragma once

#include <stdint.h>

/// MOUNT_ATTR_* of mount_setattr(2), as constants Swift can read.
enum {
  CORDON_MOUNT_RDONLY = 0x1,
  CORDON_MOUNT_NOSUID = 0x2,
  CORDON_MOUNT_NODEV = 0x4,
  CORDON_MOUNT_NOEXEC = 0x8,
};

// All of these act on the caller's mount namespace and need CAP_SYS_ADMIN in its user namespace; call them only in
// a process with one thread that has unshared its mount namespace.

/// mount(2) of a new instance of a filesystem at `path`; `options` as the filesystem takes them, separated by commas.
int cordon_mount(const char *filesystem, const char *path, uint64_t attributes, const char *options);

/// Makes every mount private, so that nothing propagates to or from the host.
int cordon_mount_private(void);

/// open_tree(2) with a clone: a detached copy of the mount at `path`, with what is mounted beneath when `recursive`.
int cordon_mount_clone(int directory, const char *path, int recursive);

/// mount_setattr(2) on the mount `descriptor` names: adds `attributes`.
int cordon_mount_attributes(int descriptor, uint64_t attributes, int recursive);

/// Attaches a detached mount at `path` beneath `directory`.
int cordon_mount_attach(int mount, int directory, const char *path);

/// fsopen(2). Returns a configuration context.
int cordon_mount_open(const char *filesystem);

/// fsconfig(2) with a text option.
int cordon_mount_option(int context, const char *key, const char *value);

/// fsconfig(2) with an option that has no value.
int cordon_mount_flag(int context, const char *key);

/// Creates the superblock and returns it as a detached mount with `attributes`.
int cordon_mount_create(int context, uint64_t attributes);

/// Lazily detaches the mount at `path`.
int cordon_unmount(const char *path);

/// pivot_root(".", ".") and detaching of the old root; afterwards the working directory is the new root.
int cordon_pivot_here(void);
