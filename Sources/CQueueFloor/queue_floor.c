#include "CQueueFloor.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct queue_floor_session {
  const struct queue_floor *floor;
  PGconn *connection;
  char worker[32];
  /// Array literals of a batch, as long as they can get.
  char *jobs;
  char *tokens;
  char *attributions;
  char *reports;
  char *results;
};

static void explain(char *error, size_t size, const char *what, const char *why) {
  snprintf(error, size, "%s: %s", what, why);
  for (char *end = error + strlen(error); end > error && end[-1] == '\n'; end--) end[-1] = 0;
}

static PGresult *run(struct queue_floor_session *session, const char *name, int count, const char *const *values,
                     char *error, size_t size) {
  PGresult *result = PQexecPrepared(session->connection, name, count, values, NULL, NULL, 0);
  if (PQresultStatus(result) == PGRES_TUPLES_OK) return result;
  explain(error, size, name, PQerrorMessage(session->connection));
  PQclear(result);
  return NULL;
}

/// `count` times the same text, quoted as an element of an array; null: NULL.
static void repeat(char *literal, const char *text, int count) {
  *literal++ = '{';
  for (int index = 0; index < count; index++) {
    if (index) *literal++ = ',';
    if (!text) {
      literal = stpcpy(literal, "NULL");
      continue;
    }
    *literal++ = '"';
    for (const char *byte = text; *byte; byte++) {
      if (*byte == '"' || *byte == '\\') *literal++ = '\\';
      *literal++ = *byte;
    }
    *literal++ = '"';
  }
  stpcpy(literal, "}");
}

static void gather(char *literal, const PGresult *result, int column) {
  *literal++ = '{';
  for (int row = 0; row < PQntuples(result); row++) {
    if (row) *literal++ = ',';
    literal = stpcpy(literal, PQgetvalue(result, row, column));
  }
  stpcpy(literal, "}");
}

static int prepare(struct queue_floor_session *session, char *error, size_t size) {
  const char *const statements[][2] = {
      {"register_worker", session->floor->register_worker},
      {"claim", session->floor->claim},
      {"start", session->floor->start},
      {"complete", session->floor->complete},
  };
  for (size_t index = 0; index < sizeof statements / sizeof *statements; index++) {
    PGresult *result = PQprepare(session->connection, statements[index][0], statements[index][1], 0, NULL);
    int failed = PQresultStatus(result) != PGRES_COMMAND_OK;
    if (failed) explain(error, size, statements[index][0], PQerrorMessage(session->connection));
    PQclear(result);
    if (failed) return -1;
  }
  char slots[16];
  snprintf(slots, sizeof slots, "%d", session->floor->batch);
  const char *const values[] = {"floor", "localhost", "", "{default}", slots, "60", "{}", "{outputs.disk}"};
  PGresult *result = run(session, "register_worker", 8, values, error, size);
  if (!result) return -1;
  snprintf(session->worker, sizeof session->worker, "%s", PQgetvalue(result, 0, 0));
  PQclear(result);
  return 0;
}

struct queue_floor_session *queue_floor_open(const struct queue_floor *floor, char *error, size_t size) {
  struct queue_floor_session *session = calloc(1, sizeof *session);
  if (!session) abort();
  session->floor = floor;
  // Two bytes for each byte that may need a backslash, and quotes and a comma; an id has 36.
  const size_t batch = (size_t)floor->batch;
  session->jobs = malloc(batch * 40 + 8);
  session->tokens = malloc(batch * 24 + 8);
  session->attributions = malloc(batch * (2 * strlen(floor->attribution) + 8) + 8);
  session->reports = malloc(batch * (2 * strlen(floor->report) + 8) + 8);
  session->results = malloc(batch * 8 + 8);
  if (!session->jobs || !session->tokens || !session->attributions || !session->reports || !session->results) abort();
  session->connection = PQconnectdb(floor->url);
  if (PQstatus(session->connection) != CONNECTION_OK) {
    explain(error, size, "connect", PQerrorMessage(session->connection));
  } else if (!prepare(session, error, size)) {
    return session;
  }
  queue_floor_close(session);
  return NULL;
}

static int batch(struct queue_floor_session *session, const PGresult *claimed, long *round_trips, char *error,
                 size_t size) {
  const int count = PQntuples(claimed);
  gather(session->jobs, claimed, PQfnumber(claimed, "job"));
  gather(session->tokens, claimed, PQfnumber(claimed, "token"));
  repeat(session->attributions, session->floor->attribution, count);
  const char *const start[] = {session->worker, session->jobs, session->tokens, session->attributions};
  PGresult *started = run(session, "start", 4, start, error, size);
  if (!started) return -1;
  const int all = PQntuples(started) == count;
  PQclear(started);
  repeat(session->reports, session->floor->report, count);
  repeat(session->results, NULL, count);
  const char *const complete[] = {session->worker, session->jobs, session->tokens, session->reports, session->results};
  PGresult *completed = run(session, "complete", 5, complete, error, size);
  if (!completed) return -1;
  int recorded = 0;
  const int column = PQfnumber(completed, "recorded");
  for (int row = 0; row < PQntuples(completed); row++) recorded += *PQgetvalue(completed, row, column) == 't';
  PQclear(completed);
  *round_trips += 2;
  if (all && recorded == count) return count;
  explain(error, size, "drain", "a lease was lost");
  return -1;
}

long queue_floor_drain(struct queue_floor_session *session, long *round_trips, char *error, size_t size) {
  char most[16];
  snprintf(most, sizeof most, "%d", session->floor->batch);
  // At every lane with somebody waiting, from the first.
  const char *const values[] = {session->worker, most, "{}", "{}", "0"};
  long done = 0;
  while (1) {
    PGresult *claimed = run(session, "claim", 5, values, error, size);
    if (!claimed) return -1;
    *round_trips += 1;
    const int count = PQntuples(claimed) ? batch(session, claimed, round_trips, error, size) : 0;
    PQclear(claimed);
    if (count < 0) return -1;
    if (!count) return done;
    done += count;
  }
}

void queue_floor_close(struct queue_floor_session *session) {
  PQfinish(session->connection);
  free(session->jobs);
  free(session->tokens);
  free(session->attributions);
  free(session->reports);
  free(session->results);
  free(session);
}
