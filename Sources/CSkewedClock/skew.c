// Sets a process's wall clock off by CORDON_FAULT_CLOCK seconds, for `ops/faults`: LD_PRELOAD puts these functions
// before the C library's. A time namespace shifts only the clocks that count from the start of the machine, and
// libfaketime 0.9.10 takes a Swift program's arguments away. What waits until a moment of the wall clock inside the
// kernel is not shifted; the worker waits by the monotonic clock alone.
#define _GNU_SOURCE
#include "CSkewedClock.h"

#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t offset(void) {
  static _Thread_local int known;
  static _Thread_local time_t seconds;
  if (!known) {
    const char *text = getenv("CORDON_FAULT_CLOCK");
    seconds = text ? (time_t)strtoll(text, NULL, 10) : 0;
    known = 1;
  }
  return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int status = (int)syscall(SYS_clock_gettime, clock, now);
  if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += offset();
  return status;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  int status = (int)syscall(SYS_gettimeofday, now, zone);
  if (status == 0) now->tv_sec += offset();
  return status;
}

time_t time(time_t *now) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (now) *now = exact.tv_sec;
  return exact.tv_sec;
}
