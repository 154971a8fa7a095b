// The last steps to the job. The packet is that of the warden's `JobCall` behind the byte that `PacketSocket` puts first
// (`read_call`). It comes with the job's 0, 1 and 2, and in front of them the memory file that holds the packet where it
// is a long one.

#include "call.h"
#include "roles.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

enum { SOCKET = 3, STREAMS = 3, DESCRIPTORS = 8, INLINE = 64 << 10 };

/// Tags of the warden's `CellMessage`, and what failed.
enum { RUNNING = 2, FAILED = 3 };
enum { STEP_ORDER = 1, STEP_STREAMS = 2, STEP_DIRECTORY = 3, STEP_EXECUTE = 4 };

static char packet[1 + INLINE];
static char *strings[CALL_STRINGS];

static void tell(const void *bytes, size_t count) { call6(SYS_sendto, SOCKET, (long)bytes, (long)count, MSG_NOSIGNAL, 0, 0); }

_Noreturn static void fail(uint8_t step, long cause) {
  const uint32_t number = (uint32_t)-cause;
  const uint8_t message[] = {0, FAILED, step, (uint8_t)number, (uint8_t)(number >> 8), (uint8_t)(number >> 16),
                             (uint8_t)(number >> 24)};
  tell(message, sizeof message);
  leave(127);
}

/// The descriptors that came with the packet; how many.
static int descriptors_of(struct msghdr *message, int *descriptors) {
  struct cmsghdr *header = CMSG_FIRSTHDR(message);
  if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) return 0;
  int count = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
  for (int index = 0; index < count; index++) descriptors[index] = ((const int *)CMSG_DATA(header))[index];
  return count;
}

_Noreturn void wait_for_order(const char *name) {
  call(SYS_prctl, PR_SET_NAME, name, 0, 0);
  call(SYS_fcntl, SOCKET, F_SETFD, FD_CLOEXEC, 0);

  _Alignas(struct cmsghdr) char control[CMSG_SPACE(DESCRIPTORS * sizeof(int))];
  struct iovec vector = {packet, sizeof packet};
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  long length;
  do {
    length = call(SYS_recvmsg, SOCKET, &message, MSG_CMSG_CLOEXEC, 0);
  } while (length == -EINTR);
  // The warden has no use for this cell, or is gone.
  if (length <= 0) leave(0);
  int received[DESCRIPTORS];
  int count = descriptors_of(&message, received);
  int *streams = received;
  char *order = packet + 1;
  long bytes = length - 1;
  if (packet[0] == 1 && count == 1 + STREAMS) {
    bytes = call(SYS_lseek, received[0], 0, SEEK_END, 0);
    long mapped = bytes <= 0 ? -EBADMSG : call6(SYS_mmap, 0, bytes, PROT_READ, MAP_PRIVATE, received[0], 0);
    if (mapped < 0 && mapped > -4096) fail(STEP_ORDER, mapped);
    order = (char *)mapped;
    streams++, count--;
  }
  if (count != STREAMS) fail(STEP_ORDER, -EBADMSG);
  char **environment;
  const int problem = read_call(order, (size_t)bytes, strings, &environment);
  if (problem) fail(STEP_ORDER, problem);

  for (int index = 0; index < STREAMS; index++) {
    // Copies stay open; what arrived closes with the execve, as the socket does.
    long status = call(SYS_dup3, streams[index], index, 0, 0);
    if (status < 0) fail(STEP_STREAMS, status);
  }
  long status = call(SYS_chdir, "/job", 0, 0, 0);
  if (status < 0) fail(STEP_DIRECTORY, status);

  struct timespec now;
  call(SYS_clock_gettime, CLOCK_MONOTONIC, &now, 0, 0);
  const uint64_t since = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
  uint8_t running[2 + sizeof since] = {0, RUNNING};
  for (unsigned index = 0; index < sizeof since; index++) running[2 + index] = (uint8_t)(since >> (8 * index));
  tell(running, sizeof running);
  fail(STEP_EXECUTE, call(SYS_execve, strings[0], strings, environment, 0));
}
