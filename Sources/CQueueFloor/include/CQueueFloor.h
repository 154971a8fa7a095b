#pragma once

#include <stddef.h>

/// What one session of the floor sends, and with which texts. Everything has to stay while the session does.
struct queue_floor {
  const char *url;
  /// The statements of `sql/statements`, as the store sends them.
  const char *register_worker;
  const char *claim;
  const char *start;
  const char *complete;
  /// Jobs a claim asks for.
  int batch;
  /// The JSON texts that say of every attempt how it began and ended.
  const char *attribution;
  const char *report;
};

struct queue_floor_session;

/// Connects, prepares the statements and registers a worker. Null with the reason in `error`.
struct queue_floor_session *queue_floor_open(const struct queue_floor *floor, char *error, size_t size);

/// Claims, starts and completes until a claim brings nothing: no job is run, no answer is read but for ids and tokens.
/// Returns the jobs completed, or -1 with the reason in `error`. Round trips are added to `round_trips`. One thread at a
/// time for each session.
long queue_floor_drain(struct queue_floor_session *session, long *round_trips, char *error, size_t size);

void queue_floor_close(struct queue_floor_session *session);
