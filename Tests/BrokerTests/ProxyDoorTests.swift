import Foundation
import Testing

@testable import Broker

/// Mode inspect, and the proxy's door, over sockets on loopback and TLS outside.
@Suite struct ProxyDoorTests {
  @Test(arguments: [false, true])
  func curlIsReadInsideTLSByTheAttemptsAuthority(byProxy: Bool) async throws {
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let setting = try await WebSetting(web.port, trust: authority.rootFile, mode: "inspect")
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
    let setting = try await WebSetting(web.port, trust: authority.rootFile, mode: "inspect")
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
    let setting = try await WebSetting(web.port, mode: mode)
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
    let setting = try await WebSetting(web.port, trust: authority.rootFile)
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
    let setting = try await WebSetting(9, mode: "tcp")
    let answer = try await setting.answer(to: text, at: setting.proxy)
    #expect(answer.hasPrefix("HTTP/1.1 40") && answer.contains("cordon: denied: "))
    _ = await setting.session.close()
    #expect(setting.lines.recorded.map(\.decision) == [.denied] && setting.resolver.count == 0)
  }

  @Test func connectToAGrantOfModeHTTPIsToldHowToAsk() async throws {
    let setting = try await WebSetting(9)
    let answer = try await setting.answer(
      to: "CONNECT packages.internal:9 HTTP/1.1\r\nHost: packages.internal:9\r\n\r\n", at: setting.proxy)
    #expect(answer.contains("is of mode http: ask for http://packages.internal:\(setting.port)/ without TLS"))
    _ = await setting.session.close()
  }
}
