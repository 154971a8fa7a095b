#pragma once

/// Nothing to call: the library is put in front of others with LD_PRELOAD.
