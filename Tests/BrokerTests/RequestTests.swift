import Destinations
import Foundation
import NIOCore
import Testing

@testable import Broker

/// Mode http: cleartext from the job, TLS outside, over sockets on loopback.
@Suite struct RequestTests {
  @Test func curlAsksInCleartextAndTheServerIsAskedInTLS() async throws {
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let setting = try await WebSetting(web.port, trust: authority.rootFile)
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
    let setting = try await WebSetting(9)
    let (_, output) = try await House.curl(
      "-w", " %{http_code}", "--resolve", setting.resolved, "-d", "x", "\(setting.url)/simple/x")
    let line = "grant \"packages\" allows GET /simple/*; POST /simple/x matches none"
    let escaped = line.replacingOccurrences(of: "\"", with: "\\\"")
    #expect(output == "{\"error\":\"cordon: denied: \(escaped)\"}\n 403")
    _ = await setting.session.close()
    #expect(setting.lines.denials == [line])
    #expect(setting.lines.recorded[0].subject.status == 403 && setting.resolver.count == 0)
  }

  @Test("who has sent all of a day's egress is told so with 403, also within a body")
  func allowance() async throws {
    let rule = #"principal "helper" has used its egress of the day"#
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let allowance = EgressAllowance(of: "helper")
    allowance.join(House.attempt.token)
    allowance.answered(allowance.report(), left: 1_000)
    let setting = try await WebSetting(
      web.port, trust: authority.rootFile, allow: "\"POST /simple/*\"", allowance: allowance)
    let head = "POST /simple/x HTTP/1.1\r\nHost: \(setting.host)\r\nContent-Length: 5000\r\n\r\n"
    let within = try await setting.answer(to: head + String(repeating: "x", count: 5_000))
    #expect(within.hasPrefix("HTTP/1.1 403 ") && within.contains("has used its egress of the day"), "\(within)")
    let after = try await setting.answer(to: head)
    #expect(after.hasPrefix("HTTP/1.1 403 "), "\(after)")
    _ = await setting.session.close()
    #expect(setting.lines.denials == [rule, rule], "\(setting.lines.recorded)")
    #expect(setting.lines.of(.closed).map(\.subject.status) == [403])
    #expect(allowance.report().reports.map(\.amounts.sent) == [1_000])
  }

  @Test(
    "NW-33: how large an answer is that may only be a status, neither an amount nor a limit tells",
    arguments: ["Content-Length: 5000\r\n\r\n", "\r\n"], [(1 << 20, 200), (4_000, 502)])
  func hiddenSize(framing: String, limit: (most: Int, status: Int)) async throws {
    let authority = try TestAuthority()
    let server = try await Server(tls: authority.chain().context()) { wire in
      guard try await wire.read() != nil else { return }
      try await wire.write("HTTP/1.1 200 OK\r\n\(framing)" + String(repeating: "x", count: 5_000))
      await wire.close()
    }
    var limits = SessionLimits()
    limits.bodyBytes = limit.most
    let setting = try await WebSetting(
      server.port, trust: authority.rootFile, allow: "\"POST /logs\"",
      more: ",\"answer\":\"status\",\"most\":{\"received\":\"1KiB\"}", limits: limits)
    let answer = try await setting.answer(
      to: "POST /logs HTTP/1.1\r\nHost: \(setting.host)\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
    #expect(answer.hasPrefix("HTTP/1.1 \(limit.status) "), "\(answer)")
    #expect(!answer.contains("000"), "\(answer)")
    _ = await setting.session.close()
    #expect(setting.lines.denials == [])
  }

  @Test("CR-13: of a secret that lies where a path is cut nothing comes into the ledger, nor into the answer")
  func concealedBeforeTheCut() async throws {
    let setting = try await WebSetting(9, conceal: { $0.replacing("canary", with: "[redacted]") })
    for beyond in 1...5 {
      let path = "/" + String(repeating: "a", count: LedgerLine.Subject.longestPath - 1 - beyond) + "canary"
      let answer = try await setting.answer(to: "GET \(path) HTTP/1.1\r\nHost: \(setting.host)\r\n\r\n")
      #expect(answer.hasPrefix("HTTP/1.1 403 ") && !answer.contains("aaaac"), "\(beyond)")
    }
    _ = await setting.session.close()
    #expect(setting.lines.of(.denied).count == 5)
    for line in setting.lines.recorded { #expect(!line.json.contains("aaaac"), "\(line.json)") }
  }

  @Test("a method of thousands of bytes is answered with 400, and the ledger goes on with lines that can be stored")
  func longMethod() async throws {
    let setting = try await WebSetting(9)
    let method = String(repeating: "M", count: 16_000)
    let answer = try await setting.answer(to: "\(method) /simple/x HTTP/1.1\r\nHost: \(setting.host)\r\n\r\n")
    #expect(answer.hasPrefix("HTTP/1.1 400 "))
    _ = await setting.session.close()
    #expect(setting.lines.denials == ["the request has a method of more than 32 bytes"])
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
    let setting = try await WebSetting(9)
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
    let setting = try await WebSetting(server.port, trust: authority.rootFile, allow: "\"POST /simple/*\"")
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
    let setting = try await WebSetting(
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
    let setting = try await WebSetting(server.port, trust: authority.rootFile)
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
    let setting = try await WebSetting(
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
    let setting = try await WebSetting(web.port, trust: authority.rootFile)
    let answer = try await setting.answer(to: "GET /simple/x HTTP/1.1\r\nHost: \(setting.host)\r\n\r\n")
    #expect(answer.hasPrefix("HTTP/1.1 502 "))
    #expect(answer.contains("has no certificate that proves packages.internal"), "\(answer)")
    _ = await setting.session.close()
    #expect(web.seen.all.isEmpty)
    #expect(setting.lines.of(.closed).first?.subject.status == 502)
  }

  @Test func aServerThatSpeaksNoTLSIsAskedNothing() async throws {
    let server = try await Server { wire in try await wire.write("220 ready\r\n") }
    let setting = try await WebSetting(server.port)
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
    let setting = try await WebSetting(server.port, trust: authority.rootFile)
    let answer = try await setting.answer(to: "GET /simple/x HTTP/1.1\r\nHost: \(setting.host)\r\n\r\n")
    #expect(answer.hasPrefix("HTTP/1.1 502 "))
    _ = await setting.session.close()
  }

  @Test("NW-18: a redirection is the job's to follow, and is judged anew") func redirection() async throws {
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain()) { _ in
      "HTTP/1.1 302 Found\r\nLocation: https://attacker.test/\r\nContent-Length: 0\r\n\r\n"
    }
    let setting = try await WebSetting(web.port, trust: authority.rootFile)
    let (_, output) = try await House.curl(
      "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "--resolve", setting.resolved,
      "\(setting.url)/simple/x")
    #expect(output == "302 https://attacker.test/")
    _ = await setting.session.close()
    #expect(setting.resolver.names == ["packages.internal"])
  }

  @Test func requestsAreCountedOverTheAttempt() async throws {
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let setting = try await WebSetting(web.port, trust: authority.rootFile, more: ",\"most\":{\"requests\":1}")
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
    let setting = try await WebSetting(server.port, trust: authority.rootFile, allow: "\"POST /simple/*\"")
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
    let setting = try await WebSetting(server.port, trust: authority.rootFile, allow: "\"POST /simple/*\"")
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
    let setting = try await WebSetting(
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
    let setting = try await WebSetting(server.port, trust: authority.rootFile)
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
    let setting = try await WebSetting(9, limits: limits)
    let client = try await House.connect(setting.port)
    try await client.write("GET /simple/x HTTP/1.1\r\nHo")
    #expect((try? await client.readAll()) ?? "" == "")
    _ = await setting.session.close()
    #expect(setting.lines.denials == ["limit head: no whole head of a request"])
  }
}
