#pragma once

#include <stddef.h>

/// As many strings as are taken, the two null pointers that end the lists among them; the warden's own bounds are lower.
enum { CALL_STRINGS = 2048 };

/// Reads the bytes of the warden's `JobCall`: how many arguments and how many variables there are, and then all of them,
/// each ended by a zero byte; as they stand they are what execve(2) takes. Lays down pointers to them in `strings`, which
/// holds CALL_STRINGS null pointers, the arguments first; a null pointer ends either list. Gives where the variables
/// begin. 0, or a negative errno. ops/fuzz has a fuzzer for it.
int read_call(char *bytes, size_t length, char **strings, char ***variables);
