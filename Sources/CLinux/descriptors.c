#define _GNU_SOURCE
#include "CLinuxDescriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

const int cordon_o_path = O_PATH;

int cordon_openat2(int directory, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
  struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
  return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}

int cordon_memfd(const char *name) { return memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING); }

int cordon_memfd_seal(int descriptor) {
  return fcntl(descriptor, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
}

int cordon_memfd_sealed(int descriptor) {
  const int wanted = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
  int seals = fcntl(descriptor, F_GET_SEALS);
  if (seals < 0) return -1;
  if ((seals & wanted) == wanted) return 0;
  errno = EPERM;
  return -1;
}

int cordon_pipe(int pair[2]) { return pipe2(pair, O_CLOEXEC); }

int cordon_packet_pair(int pair[2]) { return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair); }

ssize_t cordon_send_packet(int socket, const void *bytes, size_t length, const int *descriptors, size_t count) {
  if (count > CORDON_PACKET_DESCRIPTORS) {
    errno = EINVAL;
    return -1;
  }
  _Alignas(struct cmsghdr) char control[CMSG_SPACE(CORDON_PACKET_DESCRIPTORS * sizeof(int))] = {0};
  struct iovec vector = {(void *)bytes, length};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (count > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), descriptors, count * sizeof(int));
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent;
}

ssize_t cordon_receive_packet(int socket, void *bytes, size_t capacity, int descriptors[CORDON_PACKET_DESCRIPTORS],
                              size_t *count) {
  _Alignas(struct cmsghdr) char control[CMSG_SPACE(CORDON_PACKET_DESCRIPTORS * sizeof(int))];
  struct iovec vector = {bytes, capacity};
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  *count = 0;
  ssize_t received;
  do {
    received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received < 0) return -1;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    // The control buffer has room for exactly this many, so the copy cannot run over.
    size_t arrived = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(descriptors + *count, CMSG_DATA(header), arrived * sizeof(int));
    *count += arrived;
  }
  if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
    for (size_t index = 0; index < *count; index++) close(descriptors[index]);
    *count = 0;
    errno = EMSGSIZE;
    return -1;
  }
  return received;
}

int cordon_filesystem_space(int descriptor, uint64_t *blocks, uint64_t *blocks_free, uint64_t *inodes,
                            uint64_t *inodes_free) {
  struct statfs space;
  if (fstatfs(descriptor, &space)) return -1;
  *blocks = space.f_blocks;
  *blocks_free = space.f_bfree;
  *inodes = space.f_files;
  *inodes_free = space.f_ffree;
  return 0;
}

int cordon_sync_filesystem(int descriptor) { return syncfs(descriptor); }

int cordon_close_range(unsigned first, unsigned last) { return (int)syscall(SYS_close_range, first, last, 0); }

int cordon_cloexec_range(unsigned first, unsigned last) {
  return (int)syscall(SYS_close_range, first, last, CLOSE_RANGE_CLOEXEC);
}

int cordon_own_descriptors(unsigned first) {
  return (int)syscall(SYS_close_range, first, UINT_MAX, CLOSE_RANGE_UNSHARE);
}

int cordon_copy_descriptor(int descriptor, int number, int close_on_exec) {
  return dup3(descriptor, number, close_on_exec ? O_CLOEXEC : 0);
}
