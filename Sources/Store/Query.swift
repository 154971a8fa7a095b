import Postgres

/// The files of `sql/statements`, one case a file; the case's name is the file's.
enum Query: String, CaseIterable {
  case schemaPresent = "schema_present"
  case schemaVersion = "schema_version"
  case migrationsLock = "migrations_lock"
  case migrationsApplied = "migrations_applied"
  case migrationsRecord = "migrations_record"
  case migrationsEndRole = "migrations_end_role"
  case enqueue
  case enqueueMany = "enqueue_many"
  case putBlob = "put_blob"
  case cancel
  case record
  case jobs
  case logs
  case registerWorker = "register_worker"
  case claim
  case claimBegun = "claim_begun"
  case start
  case heartbeat
  case complete
  case release
  case rescue
  case ensurePartitions = "ensure_partitions"
  case attemptPublished = "attempt_published"
  case attemptIsLive = "attempt_is_live"
  case retireWorker = "retire_worker"
  case appendLog = "append_log"
  case appendEgress = "append_egress"
  case egress
  case attemptIdentity = "attempt_identity"
  case giveCredential = "give_credential"
  case loginsEnded = "logins_ended"
  case loginsLeft = "logins_left"
  case credentials
  case liveCredentials = "live_credentials"
  case tokenIsHeld = "token_is_held"
  case egressFallen = "egress_fallen"
  case reportEgress = "report_egress"
  case reportProgress = "report_progress"
  case readBlob = "read_blob"
  case readMade = "read_made"
  case reportDrained = "report_drained"
  case workers
  case setPolicy = "set_policy"
  case showPolicy = "show_policy"
  case bindPolicy = "bind_policy"
  case unbindPolicy = "unbind_policy"
  case policyHistory = "policy_history"
  case policyDocument = "policy_document"
  case explainPolicy = "explain_policy"
  case simulatePolicy = "simulate_policy"
  case pastEgress = "past_egress"
  case trialDocument = "trial_document"
  case limitPrincipal = "limit_principal"
  case principals
  case delegate
  case undelegate
  case delegations
  case revoke
  case liftRevocation = "lift_revocation"
  case revocations
  case enforceRevocations = "enforce_revocations"
  case revocationEpoch = "revocation_epoch"
  case addPrincipal = "add_principal"
  case addQueue = "add_queue"
  case queues
  case setQueue = "set_queue"
  case limitQueue = "limit_queue"
  case limitTenant = "limit_tenant"
  case limitLane = "limit_lane"
  case deadLetters = "dead_letters"
  case retry
  case discard
  case breakers
  case resetBreaker = "reset_breaker"
  case snooze
  case applyRetention = "apply_retention"
  case setRetention = "set_retention"
  case retained
  case setSchedule = "set_schedule"
  case removeSchedule = "remove_schedule"
  case pauseSchedule = "pause_schedule"
  case resumeSchedule = "resume_schedule"
  case schedules
  case dueSchedules = "due_schedules"
  case scheduleDueIn = "schedule_due_in"
  case fireSchedule = "fire_schedule"
  case breakSchedule = "break_schedule"
  case ensureLogin = "ensure_login"
  case enrolmentOwner = "enrolment_owner"
  case createJoinToken = "create_join_token"
  case joinTokens = "join_tokens"
  case withdrawJoinToken = "withdraw_join_token"
  case enrol
  case renew
  case reapLogins = "reap_logins"

  /// The file's text.
  var sql: String {
    guard let text = EmbeddedSQL.files["statements/\(rawValue)"] else {
      preconditionFailure("sql/statements/\(rawValue).sql was not embedded")
    }
    return text
  }

  var statement: Statement { Statement(name: rawValue, sql: sql) }
}
