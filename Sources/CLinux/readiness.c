#define _GNU_SOURCE
#include "CLinuxReadiness.h"

#include <errno.h>
#include <sys/epoll.h>

_Static_assert(CORDON_READABLE == EPOLLIN && CORDON_WRITABLE == EPOLLOUT && CORDON_FAILED == EPOLLERR &&
                   CORDON_HUNG_UP == EPOLLHUP,
               "events");

enum { MOST = 64 };

int cordon_readiness(void) { return epoll_create1(EPOLL_CLOEXEC); }

int cordon_readiness_add(int readiness, int descriptor, uint32_t events, uint64_t token) {
  struct epoll_event event = {.events = events, .data.u64 = token};
  return epoll_ctl(readiness, EPOLL_CTL_ADD, descriptor, &event);
}

int cordon_readiness_change(int readiness, int descriptor, uint32_t events, uint64_t token) {
  struct epoll_event event = {.events = events, .data.u64 = token};
  return epoll_ctl(readiness, EPOLL_CTL_MOD, descriptor, &event);
}

int cordon_readiness_remove(int readiness, int descriptor) {
  return epoll_ctl(readiness, EPOLL_CTL_DEL, descriptor, NULL);
}

int cordon_readiness_wait(int readiness, struct cordon_ready *ready, int capacity, int timeout) {
  struct epoll_event events[MOST];
  int count = epoll_wait(readiness, events, capacity < MOST ? capacity : MOST, timeout);
  if (count < 0) return errno == EINTR ? 0 : -1;
  for (int index = 0; index < count; index++) {
    ready[index] = (struct cordon_ready){.token = events[index].data.u64, .events = events[index].events};
  }
  return count;
}
