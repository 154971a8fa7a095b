// The few kernel and libc calls that Swift cannot reach by itself: what glibc does not wrap, what its headers
// hide behind _GNU_SOURCE, and what is variadic. Each function says when it may be called. All of them return
// -1 and set errno on failure unless they say otherwise.
#pragma once

#include "CLinuxDescriptors.h"
#include "CLinuxLandlock.h"
#include "CLinuxLoop.h"
#include "CLinuxMount.h"
#include "CLinuxNetwork.h"
#include "CLinuxProcess.h"
#include "CLinuxReadiness.h"
#include "CLinuxThread.h"
