#include "call.h"

#include <errno.h>
#include <stdint.h>

enum { COUNTS = 8 };

static uint32_t number(const char *bytes) {
  const unsigned char *byte = (const unsigned char *)bytes;
  return byte[0] | (uint32_t)byte[1] << 8 | (uint32_t)byte[2] << 16 | (uint32_t)byte[3] << 24;
}

int read_call(char *bytes, size_t length, char **strings, char ***variables) {
  if (length <= COUNTS) return -EBADMSG;
  const uint32_t arguments = number(bytes), others = number(bytes + 4);
  if (arguments == 0 || arguments > CALL_STRINGS - 2 || others > CALL_STRINGS - 2 - arguments) return -E2BIG;
  char *text = bytes + COUNTS, *const end = bytes + length;
  char **next = strings;
  for (uint32_t index = 0; index < arguments + others; index++) {
    if (index == arguments) next++;
    *next++ = text;
    while (text < end && *text) text++;
    if (text++ >= end) return -EBADMSG;
  }
  *variables = strings + arguments + 1;
  // Whoever wrote more has counted otherwise.
  return text == end ? 0 : -EBADMSG;
}
