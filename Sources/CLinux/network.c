#define _GNU_SOURCE
#include "CLinuxNetwork.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int fail_closing(int descriptor) {
  int cause = errno;
  close(descriptor);
  errno = cause;
  return -1;
}

int cordon_loopback_up(void) {
  int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return -1;
  struct ifreq request;
  memset(&request, 0, sizeof request);
  strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (ioctl(descriptor, SIOCSIFFLAGS, &request) != 0) return fail_closing(descriptor);
  return close(descriptor);
}

int cordon_listen(uint32_t address, uint16_t port, int backlog, int receive_bytes) {
  int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return -1;
  struct sockaddr_in name;
  memset(&name, 0, sizeof name);
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(address);
  name.sin_port = htons(port);
  // Before listen: connections take it from here, and the window that they announce.
  if (setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes) != 0 ||
      bind(descriptor, (struct sockaddr *)&name, sizeof name) != 0 || listen(descriptor, backlog) != 0)
    return fail_closing(descriptor);
  return descriptor;
}
