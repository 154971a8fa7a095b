import Foundation
import Postgres
import TestKit
import Testing

@testable import Store

private let groups = [
  "cordon_producer", "cordon_worker", "cordon_operator", "cordon_auditor", "cordon_introspector", "cordon_joiner",
]

/// What the catalog says about rights, enumerated rather than sampled: a table or function added later is covered.
@Suite(.migrated) struct CatalogTests {
  @Test func everyTableIsClosedToEveryGroup() async throws {
    let relations = try await admin(
      """
      select quote_ident(relname) from pg_class
      where relnamespace = 'cordon'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f', 'S')
      """
    ).compactMap { $0 }
    #expect(relations.count > 20)
    let open = try await admin(
      """
      select format('%s %s %s', g, c.relname, p) from pg_class c, unnest($1::text[]) g,
        unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) p
      where c.relnamespace = 'cordon'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
        and has_table_privilege(g, c.oid, p)
      union all
      select format('%s %s %s', g, c.relname, p) from pg_class c, unnest($1::text[]) g,
        unnest(array['select', 'usage', 'update']) p
      where c.relnamespace = 'cordon'::regnamespace and c.relkind = 'S' and has_sequence_privilege(g, c.oid, p)
      """, [Parameter(groups)])
    #expect(open == [])

    // And tried for real, by a member of each group.
    for group in groups {
      let member = try await Member.make(group)
      for relation in relations {
        let error = try await refusal { try await member.column("select 1::text from cordon.\(relation)") }
        #expect(error.sqlState == "42501", "\(group) read \(relation)")
        let write = try await refusal { try await member.column("delete from cordon.\(relation) returning 1::text") }
        #expect(write.sqlState == "42501" || write.sqlState == "42809", "\(group) wrote \(relation): \(write)")
      }
      let create = try await refusal { try await member.column("create table cordon.mine (a int)") }
      #expect(create.sqlState == "42501")
      await member.pool.close()
    }
  }

  @Test func everyFunctionIsFixedAndNotPublic() async throws {
    let count = try #require(
      try await admin("select count(*)::text from pg_proc where pronamespace = 'cordon'::regnamespace")[0])
    #expect(try #require(Int(count)) > 40)
    let loose = try await admin(
      """
      select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname in ('cordon', 'cordon_logins') and (
        not prosecdef
        or case nspname when 'cordon' then proowner not in ('cordon_owner'::regrole, 'cordon_reader'::regrole)
          else proowner <> 'cordon_enroller'::regrole end
        or not coalesce(proconfig, '{}') @> array['search_path=' || case nspname when 'cordon' then 'cordon' else 'pg_catalog' end
          || ', pg_temp']
        or exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner))) a where a.grantee = 0))
      """)
    #expect(loose == [])
  }

  /// What people read by goes through a role that row-level security binds, and that can do nothing but read.
  @Test func readersAreBoundByTheirTenant() async throws {
    let bound = try await admin(
      """
      select p.proname from pg_proc p where pronamespace = 'cordon'::regnamespace
        and proowner = 'cordon_reader'::regrole order by 1
      """)
    #expect(
      bound == [
        "credentials", "dead_letters", "egress", "job_state", "jobs", "logs", "record", "schedules", "visible_job",
      ])
    let readable = try await admin(
      """
      select format('%s %s %s', c.relname, string_agg(p, ' '),
        case when c.relrowsecurity then (select string_agg(polname, ' ') from pg_policy where polrelid = c.oid) end)
      from pg_class c, unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) p
      where c.relnamespace = 'cordon'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
        and has_table_privilege('cordon_reader', c.oid, p)
      group by c.oid order by c.relname
      """)
    #expect(
      readable == [
        "attempt select of_own_tenant", "blocked select of_own_tenant", "credential_given select of_own_tenant",
        "dead_letter select of_own_tenant",
        "egress_line select of_own_tenant",
        "held select of_own_tenant", "job select of_own_tenant", "lane select of_own_tenant",
        "lease select of_own_tenant",
        "log_chunk select of_own_tenant", "narrowed select of_own_tenant", "principal select of_oneself",
        "queue select ", "ready select of_own_tenant",
        "schedule select of_own_tenant", "scheduled select of_own_tenant", "worker select ",
      ])
    #expect(
      try await admin(
        """
        select rolcanlogin or rolsuper or rolbypassrls or rolcreaterole
          or has_schema_privilege('cordon_reader', 'cordon', 'create') from pg_roles where rolname = 'cordon_reader'
        """) == ["f"])
  }

  /// Who can make logins cannot log in, is nobody's, and is reached by these alone.
  @Test func whatMakesLoginsIsFixed() async throws {
    let owned = try await admin(
      """
      select p.oid::regproc::text from pg_proc p where proowner = 'cordon_enroller'::regrole order by 1
      """)
    #expect(
      owned
        == ["bar_login", "drop_login", "end_sessions", "group_of", "make_login", "own_login", "set_login"].map {
          "cordon_logins." + $0
        })
    #expect(
      try await admin(
        """
        select r.rolname from pg_namespace n, pg_roles r
        where n.nspname = 'cordon_logins' and not r.rolsuper and has_schema_privilege(r.oid, n.oid, 'create')
        """) == ["cordon_enroller"])
    #expect(
      try await admin(
        """
        select g || ' ' || p.proname from pg_proc p, unnest($1::text[] || 'cordon_reader'::text) g
        where p.pronamespace = 'cordon_logins'::regnamespace
          and (has_function_privilege(g, p.oid, 'execute') or has_schema_privilege(g, p.pronamespace, 'usage'))
        """, [Parameter(groups)]) == [])
    #expect(
      try await admin(
        """
        select concat_ws(' ', rolcanlogin, rolsuper, rolbypassrls, rolcreaterole,
          exists (select from pg_auth_members where roleid = r.oid),
          has_schema_privilege(r.oid, 'cordon', 'create')) from pg_roles r where rolname = 'cordon_enroller'
        """) == ["f f f t f f"])
    #expect(
      try await admin(
        """
        select c.relname from pg_class c
        where c.relnamespace = 'cordon'::regnamespace and c.relkind in ('r', 'p', 'v')
          and (c.relname = any (array['join_token', 'enrolment', 'principal', 'worker', 'job']))
          and has_table_privilege('cordon_enroller', c.oid, 'select')
        """) == [])
  }

  /// What the owner adds later is closed too, without a thought.
  @Test func laterFunctionsAndTypesAreNotPublic() async throws {
    try await Database.current.execute(
      """
      set role cordon_owner; create function cordon.later() returns int language sql as 'select 1';
      create type cordon.later as enum ('a'); create sequence cordon.later_numbers
      """)
    let producer = try await Member.producer()
    let error = try await refusal { try await producer.column("select cordon.later()::text") }
    #expect(error.sqlState == "42501")
    let rights = try await admin(
      """
      select has_type_privilege($1, 'cordon.later', 'usage') or has_sequence_privilege($1, 'cordon.later_numbers', 'usage')
      """, [Parameter(producer.role)])
    #expect(rights == ["f"])
  }

  /// Which group may call what; one line a function, so that a change of rights is seen.
  @Test func grantsAreTheseAndNoOthers() async throws {
    let granted = try await admin(
      """
      select p.proname || ': ' || string_agg(substr(g, 8), ' ' order by g) from pg_proc p, unnest($1::text[]) g
      where pronamespace = 'cordon'::regnamespace and has_function_privilege(g, p.oid, 'execute')
      group by p.oid, p.proname order by 1
      """, [Parameter(groups)]
    ).compactMap { $0 }
    #expect(
      granted == [
        "add_principal: operator",
        "add_queue: operator",
        "append_egress: worker",
        "append_log: worker",
        "apply_retention: operator worker",
        "attempt_identity: worker",
        "attempt_is_live: introspector",
        "attempt_published: worker",
        "audit_events: auditor operator",
        "bind_policy: operator",
        "break_schedule: worker",
        "breakers: auditor operator",
        "cancel: operator producer",
        "claim: worker",
        "claim_begun: worker",
        "complete: worker",
        "create_join_token: operator",
        "credentials: auditor operator producer",
        "dead_letters: auditor operator producer",
        "delegate: operator producer",
        "delegations: auditor operator producer",
        "discard: operator producer",
        "due_schedules: worker",
        "egress: auditor operator producer",
        "egress_fallen: worker",
        "enforce_revocations: operator",
        "enqueue: producer",
        "enqueue_job: producer",
        "enqueue_many: producer",
        "enrol: joiner",
        "ensure_partitions: operator",
        "ensure_partitions: operator worker",
        "explain_policy: auditor operator",
        "fire_schedule: worker",
        "give_credential: worker",
        "heartbeat: worker",
        "installed_version: auditor introspector joiner operator producer worker",
        "jobs: auditor operator producer",
        "join_tokens: auditor operator",
        "lift_revocation: operator",
        "limit_lane: operator",
        "limit_principal: operator",
        "limit_queue: operator",
        "limit_tenant: operator",
        "live_credentials: auditor operator",
        "logins_ended: worker",
        "logins_left: worker",
        "logs: auditor operator producer",
        "parse_specification: producer",
        "parse_specifications: producer",
        "past_egress: operator",
        "pause_schedule: operator producer",
        "policy_document: auditor operator",
        "policy_history: auditor operator",
        "principals: auditor operator",
        "put_blob: producer",
        "queues: auditor operator",
        "read_blob: worker",
        "read_made: worker",
        "reap_logins: operator worker",
        "record: auditor operator producer",
        "register_worker: worker",
        "release: worker",
        "remove_schedule: operator producer",
        "renew: worker",
        "report_drained: worker",
        "report_egress: worker",
        "report_progress: worker",
        "rescue: operator worker",
        "reset_breaker: operator",
        "resume_schedule: operator producer",
        "retained: auditor operator",
        "retire_worker: worker",
        "retry: operator producer",
        "revocation_epoch: worker",
        "revocations: auditor operator",
        "revoke: operator",
        "schedule_due_in: worker",
        "schedules: auditor operator producer",
        "set_policy: operator",
        "set_queue: operator",
        "set_retention: operator",
        "set_schedule: producer",
        "show_policy: auditor operator worker",
        "simulate_policy: operator",
        "snooze: operator producer",
        "start: worker",
        "token_is_held: worker",
        "trial_document: operator",
        "unbind_policy: operator",
        "undelegate: operator producer",
        "withdraw_join_token: operator",
        "workers: auditor operator",
      ])
  }

  /// A worker says that partitions are due; how many tables there are, operators say.
  @Test func workersDoNotChooseHowManyPartitions() async throws {
    let worker = try await Member.make("cordon_worker")
    let error = try await refusal { try await worker.column("select cordon.ensure_partitions(520)::text") }
    #expect(error.sqlState == "42501")
    #expect(try await worker.column("select cordon.ensure_partitions()::text") == ["0"])
    let boss = try await Member.make("cordon_operator")
    #expect(try await boss.column("select cordon.ensure_partitions(5)::text") == ["5"])
  }

  @Test func recordedRowsCannotBeChanged() async throws {
    let producer = try await Member.producer()
    let job = try await producer.store.enqueue(queue: "default", specification: sleepJob).job
    #expect(try await producer.store.cancel(job) == "cancelled")
    for table in ["job", "attempt", "audit", "policy", "schema_version"] {
      #expect(try await admin("select count(*) > 0 from cordon.\(table)") == ["t"])
      for change in ["delete from cordon.\(table)", "truncate cordon.\(table) cascade"] {
        let error = try await refusal { try await Database.current.execute(change) }
        #expect(error.sqlState == "42501", "\(change): \(error)")
      }
    }
    for change in ["update cordon.job set tenant = 'x'", "update cordon.attempt set outcome = 'succeeded'"] {
      let error = try await refusal { try await Database.current.execute(change) }
      #expect(error.sqlState == "42501", "\(change): \(error)")
    }
  }

  @Test func everyStatementIsEmbeddedAndUsed() {
    let files = Set(EmbeddedSQL.files.keys.filter { $0.hasPrefix("statements/") })
    #expect(files == Set(Query.allCases.map { "statements/\($0.rawValue)" }))
  }

  /// Statistics must not decide how a claim finds its rows, so the plans of never-analysed tables are looked at, and of
  /// analysed ones.
  @Test(arguments: [false, true]) func claimDeletesByTID(isAnalysed: Bool) async throws {
    let producer = try await Member.producer()
    _ = try await producer.store.enqueueMany(queue: "default", specifications: Array(repeating: sleepJob, count: 2_000))
    if isAnalysed { try await Database.current.execute("analyze") }
    let plans = Lines()
    var settings = Database.current.settings()
    settings.noticeHandler = { notice in plans.add(notice.message) }
    let connection = try await Connection.connect(settings)
    try await connection.execute(
      script: """
        load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on;
        set client_min_messages = log;
        select cordon.claim(cordon.register_worker('w', 'h', 'b', array['default'], 10, 30), 10);
        """)
    await connection.close()
    let plan = try #require(plans.all.first { $0.contains("Delete on ready") })
    #expect(plan.contains("Tid Scan on ready"))
    #expect(!plan.contains("Seq Scan"), "neither the queue nor any partition of job is read from end to end")
    #expect(plan.contains("id = g.job"), "nor is what lies between the jobs: each is found by its key")
    // The choice, and the lanes before it.
    let reads = plans.all.filter { $0.contains("on ready r") && !$0.contains("Delete on ready") }
    #expect(
      reads.count >= 2
        && reads.allSatisfy {
          ($0.contains("using ready_key on ready r") || $0.contains("Tid Scan on ready r"))
            && !$0.contains("Seq Scan on ready")
        })
  }
}

/// Lines gathered from a connection's thread.
private final class Lines: @unchecked Sendable {
  private let lock = NSLock()
  private var lines: [String] = []

  func add(_ line: String) { lock.withLock { lines.append(line) } }
  var all: [String] { lock.withLock { lines } }
}
