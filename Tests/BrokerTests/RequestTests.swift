import Destinations
import Foundation
import Jobs
import NIOCore
import NIOSSL
import Synchronization
import Testing

@testable import Broker

/// Modes http and inspect, and the proxy's door, over sockets on loopback and TLS outside.
@Suite struct RequestTests {
  struct Setting {
    let session: EgressSession
    let port: UInt16
    let proxy: UInt16
    let lines = Lines()
    let resolver: CountingResolver

    var url: String { "http://packages.internal:\(port)" }
    var resolved: String { "packages.internal:\(port):127.0.0.1" }
    var host: String { "packages.internal:\(port)" }

    init(
      _ server: UInt16, trust: String? = nil, mode: String = "http", allow: String = "\"GET /simple/*\"",
      more: String = "", resolver: CountingResolver = CountingResolver("127.0.0.1"), limits: SessionLimits = .init(),
      credentials: some CredentialProvider = NoCredentials()
    ) async throws {
      self.resolver = resolver
      let door = try House.listener()
      let proxyDoor = try House.listener()
      let allowed = mode == "http" || mode == "inspect" ? "\"allow\":[\(allow)]," : ""
      let grant = try House.grant(
        """
        {"host":"packages.internal","port":\(server),"mode":"\(mode)","listen":\(door.port),\(allowed)
        "allow_private":["127.0.0.0/8"]\(more)}
        """)
      (port, proxy) = (door.port, proxyDoor.port)
      session = try await House.broker(resolver, trust: trust).open(
        House.attempt, grants: [(grant, door.descriptor)], proxy: proxyDoor.descriptor, limits: limits,
        credentials: credentials, ledger: lines.record)
    }

    /// What a client that sends these bytes is answered until the connection ends.
    func answer(to text: String, at port: UInt16? = nil) async throws -> String {
      let client = try await House.connect(port ?? self.port)
      try await client.write(text)
      return try await client.readAll()
    }
  }

  private struct Provider: CredentialProvider {
    let give: @Sendable () throws -> Injection?

    func injection(for grant: Grant, attempt: AttemptAddress) async throws -> Injection? { try give() }
  }

  // MARK: http

  @Test func curlAsksInCleartextAndTheServerIsAskedInTLS() async throws {
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let setting = try await Setting(web.port, trust: authority.rootFile)
    let (status, output) = try await House.curl(
      "--resolve", setting.resolved, "-H", "Authorization: Bearer stolen", "-H", "Cookie: a=b", "-H", "X-Api-Key: k",
      "-H", "X-Amz-Date: now", "-H", "Accept: text/html", "\(setting.url)/simple/requests")
    #expect(status == 0 && output == "ok")
    let summary = await setting.session.close()
    let seen = try #require(web.seen.all.first)
    #expect(seen.hasPrefix("GET /simple/requests HTTP/1.1\r\nHost: packages.internal:\(web.port)\r\n"))
    #expect(seen.contains("Accept: text/html\r\n"))
    for word in ["stolen", "a=b", "X-Api-Key", "X-Amz", "Connection"] { #expect(!seen.contains(word)) }
    let lines = setting.lines.recorded
    #expect(lines.map(\.decision) == [.allowed, .closed])
    #expect(lines[0].rule == "grant \"packages\": GET /simple/*" && lines[0].subject.path == "/simple/requests")
    #expect(lines[1].subject.status == 200 && lines[1].subject.sent > 0 && lines[1].subject.received > 2)
    #expect(try LedgerSummary.verifying(lines.map(\.json), of: House.attempt, expected: summary) == summary)
  }

  @Test func aDeniedRequestIsToldWhichRuleWasMissingAndCausesNoQuery() async throws {
    let setting = try await Setting(9)
    let (_, output) = try await House.curl(
      "-w", " %{http_code}", "--resolve", setting.resolved, "-d", "x", "\(setting.url)/simple/x")
    let line = "grant \"packages\" allows GET /simple/*; POST /simple/x matches none"
    let escaped = line.replacingOccurrences(of: "\"", with: "\\\"")
    #expect(output == "{\"error\":\"cordon: denied: \(escaped)\"}\n 403")
    _ = await setting.session.close()
    #expect(setting.lines.denials == [line])
    #expect(setting.lines.recorded[0].subject.status == 403 && setting.resolver.count == 0)
  }

  @Test(
    "NW-13, NW-17, NW-29, NW-30: a request that is not the allowed one reaches nobody",
    arguments: [
      ("GET /simple/x?q=1 HTTP/1.1\r\nHost: @\r\n\r\n", 403),
      ("GET /other HTTP/1.1\r\nHost: @\r\n\r\n", 403),
      ("GET /simple/x HTTP/1.1\r\nHost: attacker.test\r\n\r\n", 403),
      ("GET http://attacker.test/simple/x HTTP/1.1\r\nHost: attacker.test\r\n\r\n", 403),
      ("CONNECT attacker.test:443 HTTP/1.1\r\nHost: attacker.test:443\r\n\r\n", 403),
      ("TRACE /simple/x HTTP/1.1\r\nHost: @\r\n\r\n", 403),
      ("GET /simple/x HTTP/1.1\r\nHost: @\r\nHost: @\r\n\r\n", 400),
      ("GET /simple/../x HTTP/1.1\r\nHost: @\r\n\r\n", 400),
      ("GET /simple/%2e%2e HTTP/1.1\r\nHost: @\r\n\r\n", 400),
      ("GET /simple/x HTTP/1.1\r\nHost: @\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", 400),
      ("GET /simple/x HTTP/1.1\nHost: @\n\n", 400),
      ("GET /simple/x HTTP/1.1\r\nHost: @\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
      ("GET /simple/x HTTP/1.1\r\nHost: @\r\nExpect: 200-ok\r\n\r\n", 400),
      ("\u{16}\u{3}\u{1}\u{0}\u{5}hello\r\n\r\n", 400),
    ])
  func refused(text: String, status: Int) async throws {
    let setting = try await Setting(9)
    let answer = try await setting.answer(to: text.replacingOccurrences(of: "@", with: setting.host))
    #expect(answer.hasPrefix("HTTP/1.1 \(status) "))
    #expect(answer.contains("cordon: denied: "))
    _ = await setting.session.close()
    #expect(setting.lines.recorded.map(\.decision) == [.denied] && setting.resolver.count == 0)
  }

  @Test("what follows a smuggled length is no request of anybody's")
  func smuggling() async throws {
    let authority = try TestAuthority()
    let seen = Notes()
    let server = try await Server(tls: authority.chain().context()) { wire in
      while let bytes = try await wire.read() { seen.append(String(buffer: bytes)) }
    }
    let setting = try await Setting(server.port, trust: authority.rootFile, allow: "\"POST /simple/*\"")
    // A chunk whose size has an extension, behind which another request hides from some readers.
    let answer = try await setting.answer(
      to: "POST /simple/x HTTP/1.1\r\nHost: \(setting.host)\r\nTransfer-Encoding: chunked\r\n\r\n"
        + "0;\nGET /admin HTTP/1.1\r\nHost: \(setting.host)\r\n\r\n")
    #expect(answer.hasPrefix("HTTP/1.1 400 "))
    _ = await setting.session.close()
    #expect(!seen.all.joined().contains("/admin"))
    #expect(setting.lines.recorded.map(\.decision) == [.allowed, .denied, .closed])
  }

  @Test func requestsOfOneConnectionShareOneToTheServer() async throws {
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain()) { $0.hasPrefix("HEAD") ? "HTTP/1.1 204 No\r\n\r\n" : WebServer.ok }
    let setting = try await Setting(
      web.port, trust: authority.rootFile, allow: "\"GET /simple/*\",\"POST /simple/*\"")
    let client = try await House.connect(setting.port)
    try await client.write("GET /simple/a HTTP/1.1\r\nHost: \(setting.host)\r\n\r\n")
    #expect(try await client.readMessage().hasSuffix("ok"))
    try await client.write("POST /simple/b HTTP/1.1\r\nHost: \(setting.host)\r\nContent-Length: 3\r\n\r\nabc")
    #expect(try await client.readMessage().hasSuffix("ok"))
    try await client.write("GET /simple/c HTTP/1.1\r\nHost: \(setting.host)\r\nConnection: close\r\n\r\n")
    #expect(try await client.readAll().hasSuffix("ok"))
    _ = await setting.session.close()
    #expect(web.server.connections == 1 && web.seen.all.count == 3 && setting.resolver.count == 1)
    #expect(setting.lines.recorded.map(\.decision) == [.allowed, .closed, .allowed, .closed, .allowed, .closed])
  }

  @Test func anAnswerInChunksAndOneToTheEndReachTheJobWhole() async throws {
    let authority = try TestAuthority()
    let server = try await Server(tls: authority.chain().context()) { wire in
      let text = try await wire.readMessage()
      if text.contains("/chunks") {
        try await wire.write(
          "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSet-Cookie: s=1\r\n\r\n4\r\nabcd\r\n"
        )
        try await wire.write("2\r\nef\r\n0\r\n\r\n")
      } else {
        try await wire.write("HTTP/1.1 200 OK\r\n\r\nabcdef")
      }
    }
    let setting = try await Setting(server.port, trust: authority.rootFile)
    for path in ["chunks", "end"] {
      let (status, output) = try await House.curl("-i", "--resolve", setting.resolved, "\(setting.url)/simple/\(path)")
      #expect(status == 0 && output.hasSuffix("\r\n\r\nabcdef") && !output.contains("Set-Cookie"))
    }
    _ = await setting.session.close()
  }

  @Test("a body of many megabytes goes up and down, and the broker holds little of it")
  func bodies() async throws {
    let authority = try TestAuthority()
    let count = 8 << 20
    let server = try await Server(tls: authority.chain().context()) { wire in
      var got = 0
      while let bytes = try await wire.read() {
        got += bytes.readableBytes
        if got > count { break }
      }
      try await wire.write("HTTP/1.1 200 OK\r\nContent-Length: \(count)\r\n\r\n")
      for _ in 0..<8 { try await wire.write(ByteBuffer(repeating: 120, count: 1 << 20)) }
      while try await wire.read() != nil {}
    }
    let setting = try await Setting(
      server.port, trust: authority.rootFile, allow: "\"POST /simple/*\"", more: ",\"most\":{\"sent\":\"16MiB\"}")
    let file = NSTemporaryDirectory() + "cordon-body-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: file) }
    try Data(repeating: 121, count: count).write(to: URL(fileURLWithPath: file))
    let (status, output) = try await House.curl(
      "--resolve", setting.resolved, "--data-binary", "@\(file)", "-o", "/dev/null", "-w",
      "%{http_code} %{size_download} %{size_upload}", "\(setting.url)/simple/x")
    #expect(status == 0 && output == "200 \(count) \(count)")
    #expect(setting.session.mostHeld <= 4 * Wire.mostRead)
    _ = await setting.session.close()
    #expect(setting.lines.of(.closed).first?.subject.sent ?? 0 > count)
  }

  @Test(
    "NW-40: a server whose certificate does not prove the grant's host is asked nothing",
    arguments: ["wrong name", "expired", "unknown root"])
  func certificates(fault: String) async throws {
    let authority = try TestAuthority()
    let chain =
      switch fault {
      case "wrong name": try authority.chain(for: "other.internal")
      case "expired": try authority.chain(until: Date() - 60)
      default: try TestAuthority().chain()
      }
    let web = try await WebServer(chain)
    let setting = try await Setting(web.port, trust: authority.rootFile)
    let answer = try await setting.answer(to: "GET /simple/x HTTP/1.1\r\nHost: \(setting.host)\r\n\r\n")
    #expect(answer.hasPrefix("HTTP/1.1 502 "))
    #expect(answer.contains("has no certificate that proves packages.internal"), "\(answer)")
    _ = await setting.session.close()
    #expect(web.seen.all.isEmpty)
    #expect(setting.lines.of(.closed).first?.subject.status == 502)
  }

  @Test func aServerThatSpeaksNoTLSIsAskedNothing() async throws {
    let server = try await Server { wire in try await wire.write("220 ready\r\n") }
    let setting = try await Setting(server.port)
    let answer = try await setting.answer(to: "GET /simple/x HTTP/1.1\r\nHost: \(setting.host)\r\n\r\n")
    #expect(answer.hasPrefix("HTTP/1.1 502 ") && answer.contains("completes no TLS 1.2 handshake"))
    _ = await setting.session.close()
  }

  @Test(
    "an answer that could be read in two ways is not passed on",
    arguments: [
      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "HTTP/1.1 101 Switching\r\n\r\n", "HTTP/2 200\r\n\r\n", "hello",
    ])
  func answers(text: String) async throws {
    let authority = try TestAuthority()
    let server = try await Server(tls: authority.chain().context()) { wire in
      _ = try await wire.readMessage()
      try await wire.write(text)
    }
    let setting = try await Setting(server.port, trust: authority.rootFile)
    let answer = try await setting.answer(to: "GET /simple/x HTTP/1.1\r\nHost: \(setting.host)\r\n\r\n")
    #expect(answer.hasPrefix("HTTP/1.1 502 "))
    _ = await setting.session.close()
  }

  @Test("NW-18: a redirection is the job's to follow, and is judged anew") func redirection() async throws {
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain()) { _ in
      "HTTP/1.1 302 Found\r\nLocation: https://attacker.test/\r\nContent-Length: 0\r\n\r\n"
    }
    let setting = try await Setting(web.port, trust: authority.rootFile)
    let (_, output) = try await House.curl(
      "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "--resolve", setting.resolved,
      "\(setting.url)/simple/x")
    #expect(output == "302 https://attacker.test/")
    _ = await setting.session.close()
    #expect(setting.resolver.asked.withLock { $0 } == ["packages.internal"])
  }

  @Test func requestsAreCountedOverTheAttempt() async throws {
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let setting = try await Setting(web.port, trust: authority.rootFile, more: ",\"most\":{\"requests\":1}")
    let request = "GET /simple/x HTTP/1.1\r\nHost: \(setting.host)\r\nConnection: close\r\n\r\n"
    #expect(try await setting.answer(to: request).hasPrefix("HTTP/1.1 200 "))
    let second = try await setting.answer(to: request)
    #expect(second.hasPrefix("HTTP/1.1 403 ") && second.contains("most.requests of 1 is used up"))
    _ = await setting.session.close()
    #expect(web.seen.all.count == 1)
  }

  @Test("an answer that comes before the body's end reaches the job, whatever it still sends")
  func earlyAnswer() async throws {
    let authority = try TestAuthority()
    let server = try await Server(tls: authority.chain().context()) { wire in
      _ = try await wire.read()
      try await wire.write("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
      while try await wire.read() != nil {}
    }
    let setting = try await Setting(server.port, trust: authority.rootFile, allow: "\"POST /simple/*\"")
    let client = try await House.connect(setting.port)
    try await client.write("POST /simple/x HTTP/1.1\r\nHost: \(setting.host)\r\nContent-Length: 10\r\n\r\nabc")
    let answer = try await client.readAll()
    #expect(answer.hasPrefix("HTTP/1.1 413 ") && answer.contains("Connection: close") && answer.hasSuffix("big"))
    try await client.write("def")
    await client.close()
    try await House.until("the end is recorded") { setting.lines.of(.closed).count == 1 }
    #expect(setting.lines.of(.closed)[0].subject.status == 413)
    _ = await setting.session.close()
  }

  @Test("a server that breaks off while a body is sent is told at once")
  func brokenUpload() async throws {
    let authority = try TestAuthority()
    let server = try await Server(tls: authority.chain().context()) { wire in _ = try await wire.read() }
    let setting = try await Setting(server.port, trust: authority.rootFile, allow: "\"POST /simple/*\"")
    let answer = try await setting.answer(
      to: "POST /simple/x HTTP/1.1\r\nHost: \(setting.host)\r\nContent-Length: 10\r\n\r\nabc")
    #expect(answer.hasPrefix("HTTP/1.1 502 "))
    _ = await setting.session.close()
  }

  @Test("a body beyond the budget ends in a 403, and the server gets no whole request", arguments: [true, false])
  func bodyBudget(isChunked: Bool) async throws {
    let authority = try TestAuthority()
    let seen = Notes()
    let server = try await Server(tls: authority.chain().context()) { wire in
      while let bytes = try await wire.read() { seen.append(String(buffer: bytes)) }
    }
    let setting = try await Setting(
      server.port, trust: authority.rootFile, allow: "\"POST /simple/*\"", more: ",\"most\":{\"sent\":\"1KiB\"}")
    let body = String(repeating: "x", count: 2_048)
    let framed =
      isChunked
      ? "Transfer-Encoding: chunked\r\n\r\n800\r\n\(body)\r\n0\r\n\r\n" : "Content-Length: 2048\r\n\r\n\(body)"
    let answer = try await setting.answer(to: "POST /simple/x HTTP/1.1\r\nHost: \(setting.host)\r\n\(framed)")
    #expect(answer.hasPrefix("HTTP/1.1 403 ") && answer.contains("most.sent of 1024 is used up"))
    _ = await setting.session.close()
    #expect(!seen.all.joined().contains("xxxx"))
    #expect(setting.lines.denials == ["grant \"packages\": most.sent of 1024 is used up"])
  }

  @Test("NW-38: a cut ends an exchange under way on both sides within a second")
  func cut() async throws {
    let authority = try TestAuthority()
    let over = Notes()
    let server = try await Server(tls: authority.chain().context()) { wire in
      _ = try await wire.readMessage()
      try await wire.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
      while let bytes = try? await wire.read(), bytes.readableBytes > 0 {}
      over.append("over")
    }
    let setting = try await Setting(server.port, trust: authority.rootFile)
    let client = try await House.connect(setting.port)
    try await client.write("GET /simple/x HTTP/1.1\r\nHost: \(setting.host)\r\n\r\n")
    var text = ""
    while !text.contains("abc"), let bytes = try await client.read() { text += String(buffer: bytes) }
    let start = ContinuousClock.now
    setting.session.cut(reason: "tenant revoked")
    #expect(!((try? await client.readAll()) ?? "").contains("0\r\n\r\n"))
    try await House.until("the server's side ends") { over.all == ["over"] }
    #expect(ContinuousClock.now - start < .seconds(1))
    _ = await setting.session.close()
    #expect(setting.lines.denials == ["cut: tenant revoked"])
    #expect(setting.lines.of(.closed).map(\.rule) == ["cut: tenant revoked"])
  }

  @Test func aHeadThatComesTooSlowlyIsNotWaitedFor() async throws {
    var limits = SessionLimits()
    limits.head = .milliseconds(100)
    let setting = try await Setting(9, limits: limits)
    let client = try await House.connect(setting.port)
    try await client.write("GET /simple/x HTTP/1.1\r\nHo")
    #expect((try? await client.readAll()) ?? "" == "")
    _ = await setting.session.close()
    #expect(setting.lines.denials == ["limit head: no whole head of a request"])
  }

  // MARK: credentials

  @Test("CR-06: what is withdrawn while it is being had is not sent, and a provider that hangs holds up nobody")
  func withdrawnMeanwhile() async throws {
    struct Slow: CredentialProvider {
      let asked = Notes()

      func injection(for grant: Grant, attempt: AttemptAddress) async throws -> Injection? {
        asked.append("asked")
        try await Task.sleep(for: .seconds(60))
        return .bearer("canary-7f")
      }
    }
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let request = "GET /simple/x HTTP/1.1\r\nHost: @\r\n\r\n"
    let slow = Slow()
    var limits = SessionLimits()
    limits.credential = .milliseconds(100)
    let hanging = try await Setting(
      web.port, trust: authority.rootFile, more: ",\"credential\":\"index\"", limits: limits, credentials: slow)
    let first = try await hanging.answer(to: request.replacingOccurrences(of: "@", with: hanging.host))
    #expect(first.hasPrefix("HTTP/1.1 403 ") && slow.asked.all.count == 1)
    _ = await hanging.session.close()
    let session = Box()
    let withdrawn = try await Setting(
      web.port, trust: authority.rootFile, more: ",\"credential\":\"index\"",
      credentials: Withdrawing { session.value.withLock { $0 }?.stopInjecting(reason: "job revoked") })
    session.value.withLock { $0 = withdrawn.session }
    let second = try await withdrawn.answer(to: request.replacingOccurrences(of: "@", with: withdrawn.host))
    #expect(second.hasPrefix("HTTP/1.1 403 ") && second.contains("credentials are withheld: job revoked"))
    _ = await withdrawn.session.close()
    #expect(web.server.connections == 0)
  }

  private final class Box: Sendable {
    let value = Mutex<EgressSession?>(nil)
  }

  private struct Withdrawing: CredentialProvider {
    let meanwhile: @Sendable () -> Void

    func injection(for grant: Grant, attempt: AttemptAddress) async throws -> Injection? {
      meanwhile()
      return .bearer("canary-7f")
    }
  }

  @Test func theGrantsCredentialTakesThePlaceOfTheJobs() async throws {
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let setting = try await Setting(
      web.port, trust: authority.rootFile, more: ",\"credential\":\"index\"",
      credentials: Provider { .header(name: "X-Index-Key", value: "canary-7f") })
    let (status, _) = try await House.curl(
      "--resolve", setting.resolved, "-H", "X-Index-Key: mine", "\(setting.url)/simple/x")
    #expect(status == 0)
    _ = await setting.session.close()
    let seen = try #require(web.seen.all.first)
    #expect(seen.contains("X-Index-Key: canary-7f\r\n") && !seen.contains("mine"))
    #expect(!setting.lines.recorded.contains { $0.json.contains("canary-7f") })
  }

  @Test(
    "CR-06: a request whose credential cannot be had is never sent without it",
    arguments: ["fails", "nothing", "unusable", "withheld"])
  func withoutCredential(way: String) async throws {
    struct Secret: Error { let text = "canary-7f" }
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let setting = try await Setting(
      web.port, trust: authority.rootFile, more: ",\"credential\":\"index\"",
      credentials: Provider {
        switch way {
        case "fails": throw Secret()
        case "nothing": nil
        case "unusable": .bearer("a\r\nX: y")
        default: .bearer("canary-7f")
        }
      })
    if way == "withheld" { setting.session.stopInjecting(reason: "tenant revoked") }
    let answer = try await setting.answer(to: "GET /simple/x HTTP/1.1\r\nHost: \(setting.host)\r\n\r\n")
    #expect(answer.hasPrefix("HTTP/1.1 403 ") && answer.contains("credential") && !answer.contains("canary-7f"))
    _ = await setting.session.close()
    #expect(web.server.connections == 0 && setting.lines.recorded.map(\.decision) == [.denied])
  }

  // MARK: inspect and the proxy's door

  @Test(arguments: [false, true])
  func curlIsReadInsideTLSByTheAttemptsAuthority(byProxy: Bool) async throws {
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let setting = try await Setting(web.port, trust: authority.rootFile, mode: "inspect")
    let file = NSTemporaryDirectory() + "cordon-authority-\(UUID().uuidString).pem"
    defer { try? FileManager.default.removeItem(atPath: file) }
    try #require(setting.session.authority).write(toFile: file, atomically: true, encoding: .utf8)
    for (path, expected) in [("/simple/x", "200"), ("/upload", "403")] {
      let way =
        byProxy
        ? ["--proxy", "http://127.0.0.1:\(setting.proxy)", "https://packages.internal:\(web.port)\(path)"]
        : ["--resolve", setting.resolved, "https://packages.internal:\(setting.port)\(path)"]
      let (status, output) = try await House.curl(
        "--cacert", file, "-o", "/dev/null", "-w", "%{http_code}", way[0], way[1], way[2])
      #expect(status == 0 && output == expected)
    }
    _ = await setting.session.close()
    #expect(web.seen.all.count == 1)
    #expect(setting.lines.recorded.map(\.decision) == [.allowed, .closed, .denied])
  }

  @Test func aClientThatDoesNotKnowTheAttemptsAuthorityIsRecorded() async throws {
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let setting = try await Setting(web.port, trust: authority.rootFile, mode: "inspect")
    let (status, _) = try await House.curl(
      "--resolve", setting.resolved, "https://packages.internal:\(setting.port)/simple/x")
    #expect(status == 60)
    try await House.until("a denial") { !setting.lines.denials.isEmpty }
    #expect(setting.lines.denials[0].hasPrefix("grant \"packages\": no TLS handshake with the job's client"))
    _ = await setting.session.close()
    #expect(web.server.connections == 0 && setting.resolver.count == 0)
  }

  @Test(arguments: ["tcp", "opaque"])
  func connectLeadsToTheGrantInItsMode(mode: String) async throws {
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let setting = try await Setting(web.port, mode: mode)
    let (status, output) = try await House.curl(
      "--cacert", authority.rootFile, "--proxy", "http://127.0.0.1:\(setting.proxy)",
      "https://packages.internal:\(web.port)/any")
    #expect(status == 0 && output == "ok")
    _ = await setting.session.close()
    #expect(setting.lines.recorded.map(\.decision) == [.allowed, .closed])
  }

  @Test func anAbsoluteURLAtTheProxysDoorIsAGrantsOfModeHTTP() async throws {
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let setting = try await Setting(web.port, trust: authority.rootFile)
    let (_, output) = try await House.curl(
      "-w", " %{http_code}", "--proxy", "http://127.0.0.1:\(setting.proxy)", "\(setting.url)/simple/x")
    #expect(output == "ok 200")
    _ = await setting.session.close()
  }

  @Test(
    "NW-06, NW-11, NW-12, NW-14, NW-26: the proxy's door refuses what no grant names, before any query",
    arguments: [
      "CONNECT data.attacker.test:443 HTTP/1.1\r\nHost: data.attacker.test:443\r\n\r\n",
      "CONNECT packages.internal:22 HTTP/1.1\r\nHost: packages.internal:22\r\n\r\n",
      "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254:80\r\n\r\n",
      "CONNECT 2852039166:80 HTTP/1.1\r\nHost: 2852039166:80\r\n\r\n",
      "CONNECT packages.internal.:9 HTTP/1.1\r\nHost: packages.internal.:9\r\n\r\n",
      "GET http://attacker.test/ HTTP/1.1\r\nHost: attacker.test\r\n\r\n",
      "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "\u{5}\u{1}\u{0}\r\n\r\n",
    ])
  func proxyRefusals(text: String) async throws {
    let setting = try await Setting(9, mode: "tcp")
    let answer = try await setting.answer(to: text, at: setting.proxy)
    #expect(answer.hasPrefix("HTTP/1.1 40") && answer.contains("cordon: denied: "))
    _ = await setting.session.close()
    #expect(setting.lines.recorded.map(\.decision) == [.denied] && setting.resolver.count == 0)
  }

  @Test func connectToAGrantOfModeHTTPIsToldHowToAsk() async throws {
    let setting = try await Setting(9)
    let answer = try await setting.answer(
      to: "CONNECT packages.internal:9 HTTP/1.1\r\nHost: packages.internal:9\r\n\r\n", at: setting.proxy)
    #expect(answer.contains("is of mode http: ask for http://packages.internal:\(setting.port)/ without TLS"))
    _ = await setting.session.close()
  }
}
