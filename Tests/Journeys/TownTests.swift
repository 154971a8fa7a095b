import Foundation
import Postgres
import TestKit
import Testing

/// Before a job is sent to these hosts through a broker, they are asked by programs that know nothing of either: what
/// fails then is not theirs. All of them in one town, which ends with the process.
@Suite("The town's hosts answer real clients", .serialized)
struct TownTests {
  private static let shared = Task { try await Town() }

  private func curl(_ town: Town, _ arguments: [String]) async throws -> Tool.Answer {
    try await town.run(["/usr/bin/curl", "--silent", "--show-error", "--cacert", town.certificates.caFile] + arguments)
  }

  /// The status of a request, and the body.
  private func ask(_ town: Town, _ arguments: [String]) async throws -> (status: String, body: String) {
    let answer = try await curl(town, ["--write-out", "\n%{http_code}"] + arguments)
    #expect(answer.status == 0, "\(answer.stderr)")
    let lines = answer.text.split(separator: "\n", omittingEmptySubsequences: false)
    return (String(lines.last ?? ""), lines.dropLast().joined(separator: "\n"))
  }

  private func python(_ town: Town, _ code: String, _ arguments: [String] = []) async throws -> Tool.Answer {
    try await town.run([try Town.interpreter, "-I", "-c", code] + arguments)
  }

  private func pip(_ town: Town, url: String, _ requirements: String, to place: URL) async throws -> Tool.Answer {
    try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
    let list = place.appending(path: "requirements.txt")
    try requirements.write(to: list, atomically: true, encoding: .utf8)
    return try await town.run(
      [
        try Town.interpreter, "-Im", "pip", "--isolated", "--no-cache-dir", "download", "--require-hashes",
        "--retries", "0", "--index-url", url, "--cert", town.certificates.caFile, "--requirement", list.path, "--dest",
        place.appending(path: "wheels").path,
      ], environment: ["HOME": place.path])
  }

  // MARK: The index

  @Test("pip downloads by hash, with what a package needs")
  func downloads() async throws {
    let town = try await Self.shared.value
    let index = try await town.index()
    let place = town.directory.appending(path: "pip-\(UUID().uuidString)")
    let answer = try await pip(
      town, url: index.url, try index.requirements(["parting==1.0", "greeting==1.1"]), to: place)
    #expect(answer.status == 0, "\(answer.stderr)")
    let wheels = try FileManager.default.contentsOfDirectory(atPath: place.path + "/wheels").sorted()
    #expect(wheels == ["greeting-1.1-py3-none-any.whl", "parting-1.0-py3-none-any.whl"])
    let program = "import sys; sys.path[:0] = sys.argv[1:]; import parting; print(parting.part('Ada'))"
    let spoken = try await python(town, program, wheels.map { "\(place.path)/wheels/\($0)" })
    #expect(spoken.text == "good day, Ada and goodbye\n", "\(spoken.stderr)")
    try await eventually("the index has recorded it") {
      (try? index.requests())?.contains { $0.method == "GET" && $0.path.hasSuffix("parting-1.0-py3-none-any.whl") }
        == true
    }
  }

  @Test("pip refuses a package whose bytes are not those of the hash")
  func otherHash() async throws {
    let town = try await Self.shared.value
    let index = try await town.index()
    let place = town.directory.appending(path: "pip-\(UUID().uuidString)")
    let wrong = "greeting==1.0 --hash=sha256:\(String(repeating: "0", count: 64))\n"
    let answer = try await pip(town, url: index.url, wrong, to: place)
    #expect(answer.status != 0 && answer.stderr.contains("DO NOT MATCH THE HASHES"), "\(answer.stderr)")
  }

  @Test("nothing can be uploaded to the index")
  func upload() async throws {
    let town = try await Self.shared.value
    _ = try await town.index()
    let upload = try await ask(
      town, ["--form", ":action=file_upload", "--form", "content=@/etc/hostname", "https://pypi.internal/"])
    #expect(upload.status == "401" || upload.status == "403", "\(upload)")
  }

  @Test("an index that demands a credential refuses who has none, and records what was sent")
  func demanded() async throws {
    let town = try await Town()
    let basic = "Basic " + Data("mirror:town".utf8).base64EncodedString()
    let index = try await town.index(demanding: basic)
    #expect(try await ask(town, [index.url]).status == "401")
    #expect(try await ask(town, ["--user", "mirror:wrong", index.url]).status == "401")
    #expect(try await ask(town, ["--user", "mirror:town", index.url]).status == "200")
    try await eventually("all three are recorded") { (try? index.requests().count) == 3 }
    #expect(try index.requests().map(\.authorization).last == basic)
    let place = town.directory.appending(path: "pip")
    let lines = try index.requirements(["greeting==1.0"])
    #expect(try await pip(town, url: index.url, lines, to: place).status != 0)
    let url = index.url.replacing("https://", with: "https://mirror:town@")
    let answer = try await pip(town, url: url, lines, to: place)
    #expect(answer.status == 0, "\(answer.stderr)")
    await #expect(throws: Problem.self) { try await town.index() }
    await town.close()
  }

  @Test("a bearer's token is demanded as well")
  func bearer() async throws {
    let town = try await Town()
    await #expect(throws: Problem.self) { try await town.index(demanding: "Bearer $http_cookie") }
    let index = try await town.index(demanding: "Bearer town-token")
    #expect(try await ask(town, ["--header", "Authorization: Bearer other", index.url]).status == "401")
    #expect(try await ask(town, ["--header", "Authorization: Bearer town-token", index.url]).status == "200")
    await town.close()
  }

  // MARK: Logs

  @Test("the ingest takes a POST and keeps its body and headers, and nothing else is taken")
  func ingest() async throws {
    let town = try await Self.shared.value
    let logs = try await town.logs()
    let body = #"{"message":"grüße","n":1}"#
    let taken = try await ask(
      town, ["--header", "X-Trace: one", "--header", "X-Trace: two", "--data-binary", body, logs.ingest])
    #expect(taken.status == "200" && taken.body == #"{"taken": \#(body.utf8.count)}"# + "\n")
    let request = try #require(try logs.requests().last)
    #expect(request.method == "POST" && request.path == "/ingest" && request.headers["x-trace"] == "one, two")
    #expect(request.body == Data(body.utf8))
    let chunked = try await ask(
      town, ["--header", "Transfer-Encoding: chunked", "--data-binary", body, logs.ingest])
    #expect(chunked.status == "200")
    #expect(try logs.requests().last?.body == Data(body.utf8))
    #expect(try await ask(town, [logs.ingest]).status == "405")
    #expect(try await ask(town, ["--data", "x", "https://logs.internal/other"]).status == "404")
  }

  @Test("rsyslog takes lines over TLS, framed by octets and by newlines, from a client that verifies it")
  func syslog() async throws {
    let town = try await Self.shared.value
    let logs = try await town.logs()
    let program = """
      import socket, ssl, sys
      context = ssl.create_default_context(cafile=sys.argv[1])
      plain = socket.create_connection(("logs.internal", 6514))
      with context.wrap_socket(plain, server_hostname="logs.internal") as server:
          for line in sys.argv[2:]:
              server.sendall(line.encode())
      """
    let framed = "<165>1 2026-11-26T16:00:00.000000Z host cordon 7 - - counted"
    let plain = "<134>1 2026-11-26T16:00:01.000000Z host cordon 7 ID1 [a@32473 b=\"c\"] by newline"
    let sent = try await python(
      town, program, [town.certificates.caFile, "\(framed.utf8.count) \(framed)", plain + "\n"])
    #expect(sent.status == 0, "\(sent.stderr)")
    try await eventually("both lines have come") { logs.lines().count >= 2 }
    #expect(logs.lines() == [framed, plain])
  }

  // MARK: The ledger

  @Test("psql verifies the ledger, reads as a member of the group what the group may read, and no more")
  func ledger() async throws {
    let town = try await Self.shared.value
    let ledger = try await town.ledger()
    try await ledger.execute("CREATE ROLE clerk LOGIN PASSWORD 'town' IN ROLE \(Town.Ledger.reader)")
    func psql(_ sql: String, host: String = Town.Ledger.host, mode: String = "verify-full") async throws -> Tool.Answer
    {
      try await town.run(
        ["/usr/bin/psql", "-XAtc", sql],
        environment: [
          "PGHOST": host, "PGDATABASE": Town.Ledger.database, "PGUSER": "clerk", "PGPASSWORD": "town",
          "PGSSLMODE": mode, "PGSSLROOTCERT": town.certificates.caFile, "HOME": "/",
        ])
    }
    let sum = try await psql("SELECT sum(cents) FROM books.entry")
    #expect(sum.text == "925\n", "\(sum.stderr)")
    #expect(try await psql("INSERT INTO books.entry VALUES (9, 'x', 1)").stderr.contains("permission denied"))
    #expect(try await psql("SELECT * FROM salary").stderr.contains("permission denied"))
    #expect(try await psql("SELECT 1", mode: "disable").stderr.contains("no pg_hba.conf entry"))
    // The same server by a name that its certificate does not have.
    try await town.dns().set("impostor.internal", to: [.addresses([ledger.address])])
    #expect(try await psql("SELECT 1", host: "impostor.internal").stderr.contains("does not match host name"))
    #expect(try await ledger.ask("SELECT rolname::text FROM pg_roles WHERE rolname = 'clerk'") == ["clerk"])
  }

  // MARK: Names

  /// A query as it is on the wire, and the addresses of the answer, or why there are none.
  private static let query = """
    import socket, struct, sys
    def ask(server, name, kind):
        question = b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\\0" + struct.pack("!HH", kind, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.5)
            client.sendto(b"\\x12\\x34\\x01\\0\\0\\1\\0\\0\\0\\0\\0\\0" + question, (server, 53))
            try:
                answer = client.recv(4096)
            except TimeoutError:
                return "silence"
        number, flags, _, count = struct.unpack_from("!HHHH", answer)
        assert number == 0x1234 and flags & 0x8400 == 0x8400, hex(flags)
        if flags & 15:
            return "status %d" % (flags & 15)
        at, found = 12 + len(question), []
        for _ in range(count):
            _, kind, _, ttl, length = struct.unpack_from("!HHHIH", answer, at)
            assert ttl == 0
            found.append(socket.inet_ntop({1: socket.AF_INET, 28: socket.AF_INET6}[kind], answer[at + 12:at + 12 + length]))
            at += 12 + length
        return " ".join(found) or "none"
    for words in sys.argv[1:]:
        name, kind = words.split("/")
        print(ask(open("/etc/resolv.conf").read().split()[1], name, {"A": 1, "AAAA": 28}[kind]))
    """

  private func answers(_ town: Town, _ queries: [String]) async throws -> [String] {
    let answer = try await python(town, Self.query, queries)
    #expect(answer.status == 0, "\(answer.stderr)")
    return answer.text.split(separator: "\n").map(String.init)
  }

  @Test("a name that is bound again has another address the next time, and every query is counted")
  func rebinding() async throws {
    let town = try await Self.shared.value
    let names = try await town.dns()
    try names.set("rebind.test", to: [.addresses(["93.184.216.34"]), .addresses(["127.0.0.1"])])
    #expect(
      try await answers(town, ["rebind.test/A", "rebind.test/AAAA", "Rebind.Test/A", "rebind.test/A"]) == [
        "93.184.216.34", "none", "127.0.0.1", "127.0.0.1",
      ])
    #expect(try names.count(of: "rebind.test") == 4)
    #expect(try names.queries().contains { $0.name == "Rebind.Test" && $0.type == "A" })
    try names.set("rebind.test", to: [.addresses(["93.184.216.35"])])
    #expect(try await answers(town, ["rebind.test/A"]) == ["93.184.216.35"])
  }

  @Test("one private address among public ones, none at all, no such name, and silence")
  func otherAnswers() async throws {
    let town = try await Self.shared.value
    let names = try await town.dns()
    try names.set("mixed.test", to: [.addresses(["93.184.216.34", "10.0.0.5", "fd00:ec2::254"])])
    try names.set("gone.test", to: [.nonexistent])
    try names.set("silent.test", to: [.silence])
    #expect(
      try await answers(town, ["mixed.test/A", "mixed.test/AAAA", "gone.test/A", "unknown.test/A", "silent.test/A"])
        == [
          "93.184.216.34 10.0.0.5", "fd00:ec2::254", "status 3", "status 3", "silence",
        ])
    #expect(try names.count(of: "silent.test") == 1 && names.count(of: "never.test") == 0)
  }

  @Test("the C library resolves in the town's place what the town knows, and the host resolves none of it")
  func place() async throws {
    let town = try await Self.shared.value
    try await town.dns().set("corner.internal", to: [.addresses(["10.9.8.7"])])
    let resolve = "import socket; print(socket.gethostbyname('corner.internal'))"
    #expect(try await python(town, resolve).text == "10.9.8.7\n")
    let outside = try await RunningTool(
      command: [try Town.interpreter, "-I", "-c", resolve], environment: [:]
    ).answer()
    #expect(outside.status != 0 && outside.stderr.contains("gaierror"), "\(outside.text)")
  }

  // MARK: The object store

  private static let s3 = """
    import boto3, botocore, sys
    from botocore.config import Config
    url, authority, region, key, secret, token = sys.argv[1:7]
    client = boto3.client(
        "s3", endpoint_url=url, verify=authority, region_name=region, aws_access_key_id=key,
        aws_secret_access_key=secret, aws_session_token=token,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}))
    try:
        exec(sys.argv[7])
    except botocore.exceptions.ClientError as error:
        print(error.response["Error"]["Code"])
    """

  private func boto3(_ town: Town, _ code: String, secret: String? = nil, region: String? = nil) async throws -> String
  {
    let store = try await town.store()
    let ours = store.credentials
    let answer = try await python(
      town, Self.s3,
      [
        store.url, town.certificates.caFile, region ?? ours.region, ours.key, secret ?? ours.secret, ours.token, code,
      ])
    #expect(answer.status == 0, "\(answer.stderr)")
    return answer.text.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  @Test("boto3 stores, reads, lists and deletes an object, and how it signed can be read")
  func objects() async throws {
    let town = try await Self.shared.value
    let store = try await town.store()
    let code = """
      client.put_object(Bucket="books", Key="2026/a b+c.csv", Body=b"x,y\\r\\n1,2\\r\\n")
      print(client.get_object(Bucket="books", Key="2026/a b+c.csv")["Body"].read())
      print([entry["Key"] for entry in client.list_objects_v2(Bucket="books", Prefix="2026/")["Contents"]])
      """
    #expect(try await boto3(town, code) == "b'x,y\\r\\n1,2\\r\\n'\n['2026/a b+c.csv']")
    #expect(store.object("books/2026/a b+c.csv") == Data("x,y\r\n1,2\r\n".utf8))
    let put = try #require(try store.requests().last { $0.method == "PUT" })
    #expect(put.authorization?.hasPrefix("AWS4-HMAC-SHA256 Credential=\(store.credentials.key)/") == true)
    #expect(put.headers["x-amz-security-token"] == store.credentials.token && put.headers["x-amz-date"] != nil)
    try store.put("books/rates.csv", Data("1.07".utf8))
    let read = #"print(client.get_object(Bucket="books", Key="rates.csv")["Body"].read())"#
    #expect(try await boto3(town, read) == "b'1.07'")
    #expect(try await boto3(town, #"client.delete_object(Bucket="books", Key="rates.csv")"#) == "")
    #expect(try await boto3(town, read) == "NoSuchKey")
    #expect(store.object("books/rates.csv") == nil)
  }

  @Test("what is signed with another secret, for another region, or not at all is refused")
  func badSignatures() async throws {
    let town = try await Self.shared.value
    let put = #"client.put_object(Bucket="books", Key="bad", Body=b"x")"#
    #expect(try await boto3(town, put, secret: "another") == "SignatureDoesNotMatch")
    #expect(try await boto3(town, put, region: "us-west-2") == "AuthorizationHeaderMalformed")
    let store = try await town.store()
    #expect(try await ask(town, ["--data", "x", "--request", "PUT", store.url + "/books/bad"]).status == "403")
    #expect(store.object("books/bad") == nil)
    // By curl's own signer, which is not botocore's.
    func curled(_ secret: String) async throws -> String {
      try await ask(
        town,
        [
          "--aws-sigv4", "aws:amz:\(store.credentials.region):s3", "--user", "\(store.credentials.key):\(secret)",
          "--header", "x-amz-security-token: \(store.credentials.token)", "--upload-file", "/etc/debian_version",
          "--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD", store.url + "/books/curled",
        ]
      ).status
    }
    #expect(try await curled("another") == "403")
    #expect(try await curled(store.credentials.secret) == "200")
  }

  // MARK: Vault

  @Test("Vault gives each version to who has the token, says which are deleted, and counts what it was asked")
  func vault() async throws {
    let town = try await Self.shared.value
    let vault = try await town.vault()
    #expect(try vault.put("apps/mirror", ["password": "first"]) == 1)
    #expect(try vault.put("apps/mirror", ["password": "second"]) == 2)
    let (url, token) = ("\(vault.url)/v1/secret/data/apps/mirror", "X-Vault-Token: \(vault.token)")
    #expect(try await ask(town, ["--header", token, url]).body.contains(#""data": {"password": "second"}"#))
    #expect(try await ask(town, ["--header", token, url + "?version=1"]).body.contains(#"{"password": "first"}"#))
    try vault.delete("apps/mirror", version: 2)
    let deleted = try await ask(town, ["--header", token, url])
    #expect(deleted.status == "404" && deleted.body.contains(#""version": 2"#) && !deleted.body.contains("second"))
    #expect(try await ask(town, ["--header", token, url + "?version=3"]).status == "404")
    #expect(try await ask(town, ["--header", "X-Vault-Token: other", url]).status == "403")
    #expect(try await ask(town, [url]).status == "403")
    #expect(try vault.requests().count == 6)
    #expect(try vault.requests().first?.headers["x-vault-token"] == vault.token)
  }

  // MARK: The town itself

  @Test("a client that does not know the town's authority trusts none of its hosts")
  func certificates() async throws {
    let town = try await Self.shared.value
    let vault = try await town.vault()
    let answer = try await town.run(["/usr/bin/curl", "--silent", "--show-error", vault.url])
    #expect(answer.status == 60, "\(answer.stderr)")
  }

  @Test("what is in the town reaches its own hosts, and nothing beyond its block")
  func noWayOut() async throws {
    let town = try await Self.shared.value
    let vault = try await town.vault()
    let connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
    func reach(_ address: String, _ port: String) async throws -> Tool.Answer {
      try await town.runInside(["/usr/bin/python3", "-I", "-c", connect, address, port])
    }
    #expect(try await reach(vault.address, "8200").status == 0)
    for address in ["1.1.1.1", "169.254.169.254", "10.0.0.1"] {
      let answer = try await reach(address, "80")
      #expect(answer.status != 0 && answer.stderr.contains("Network is unreachable"), "\(address): \(answer.stderr)")
    }
  }

  @Test("a worker that is started in the town's place has its resolver, and runs jobs")
  func house() async throws {
    let town = try await Self.shared.value
    let house = try await House(slots: 1, through: town.place.through)
    let seen = "/proc/\(await house.up.process.processIdentifier)/root/etc/resolv.conf"
    let ours = town.directory.path + "/resolv.conf"
    #expect(try String(contentsOfFile: seen, encoding: .utf8) == String(contentsOfFile: ours, encoding: .utf8))
    let answer = try await house.tool.run(["run", "--", "/usr/bin/echo", "from a cell"])
    #expect(answer.status == 0 && answer.text.contains("from a cell"), "\(answer.stderr)")
    try await house.close()
  }

  @Test("a town that is closed leaves no process, no link and no file")
  func closed() async throws {
    let town = try await Town()
    _ = try await town.logs()
    _ = try await town.ledger()
    let number = try #require(town.block.split(separator: ".").dropFirst().first)
    let link = "/sys/class/net/cordon-town\(number)"
    #expect(FileManager.default.fileExists(atPath: link))
    #expect(processes(that: town.directory.path) > 4)
    await town.close()
    #expect(!FileManager.default.fileExists(atPath: link))
    #expect(!FileManager.default.fileExists(atPath: town.directory.path))
    #expect(processes(that: town.directory.path) == 0)
  }

  /// How many name a path on their command lines.
  private func processes(that name: String) -> Int {
    let ids = (try? FileManager.default.contentsOfDirectory(atPath: "/proc"))?.filter { Int($0) != nil } ?? []
    return ids.count { id in
      let line = FileManager.default.contents(atPath: "/proc/\(id)/cmdline") ?? Data()
      return String(decoding: line, as: UTF8.self).contains(name)
    }
  }
}
