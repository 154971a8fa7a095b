import Destinations
import Foundation
import NIOCore
import Testing

@testable import Broker

/// What a job is not told of an answer, and the ledger not of a request.
@Suite struct WithheldTests {
  @Test(
    "NW-33: of an answer that may only be a status nothing else comes through, however it is framed",
    arguments: [
      "HTTP/1.1 200 leaked-reason\r\nX-Note: leaked\r\nContent-Length: 11\r\n\r\nleaked-body",
      "HTTP/1.1 404 leaked-reason\r\nX-Note: leaked\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nleaked-body\r\n0\r\n\r\n",
      "HTTP/1.1 500 leaked-reason\r\nLocation: /leaked\r\n\r\nleaked-body",
      "HTTP/1.1 103 leaked\r\nLink: leaked\r\n\r\nHTTP/1.1 204 leaked\r\nX-Note: leaked\r\n\r\n",
    ], [true, false])
  func onlyTheStatus(text: String, isDropped: Bool) async throws {
    let authority = try TestAuthority()
    let server = try await Server(tls: authority.chain().context()) { wire in
      guard try await wire.read() != nil else { return }
      try await wire.write(text)
      await wire.close()
    }
    let setting = try await WebSetting(
      server.port, trust: authority.rootFile, allow: "\"POST /logs\"", more: isDropped ? ",\"answer\":\"status\"" : "")
    let answer = try await setting.answer(
      to: "POST /logs HTTP/1.1\r\nHost: \(setting.host)\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
    let status = try #require(text.contains(" 204 ") ? 204 : Int(text.dropFirst(9).prefix(3)))
    // Control: without it something of the server's own words is there.
    #expect(answer.contains("leaked") != isDropped)
    #expect(answer.hasPrefix("HTTP/1.1 \(status) "))
    if isDropped {
      #expect(
        answer == "HTTP/1.1 \(status) \r\n\(status == 204 ? "" : "Content-Length: 0\r\n")Connection: close\r\n\r\n")
    }
    _ = await setting.session.close()
    #expect(setting.lines.of(.closed).map(\.subject.status) == [status])
  }

  @Test("CR-13: what a path says of a secret does not come into the ledger, allowed or denied")
  func concealedPath() async throws {
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let setting = try await WebSetting(
      web.port, trust: authority.rootFile, conceal: { $0.replacing("canary", with: "[redacted]") })
    for path in ["/simple/canary", "/canary"] {
      _ = try await setting.answer(
        to: "GET \(path) HTTP/1.1\r\nHost: \(setting.host)\r\nConnection: close\r\n\r\n")
    }
    _ = try await setting.answer(
      to: "CONNECT canary.test:443 HTTP/1.1\r\nHost: canary.test:443\r\n\r\n", at: setting.proxy)
    let summary = await setting.session.close()
    let lines = setting.lines.recorded
    #expect(lines.map(\.decision) == [.allowed, .closed, .denied, .denied])
    #expect(lines.allSatisfy { !$0.json.contains("canary") })
    #expect(lines.prefix(3).map(\.subject.path) == ["/simple/[redacted]", "/simple/[redacted]", "/[redacted]"])
    #expect(web.seen.all.first?.contains("/simple/canary") == true, "what is asked is not changed")
    #expect(try LedgerSummary.verifying(lines.map(\.json), of: House.attempt, expected: summary) == summary)
  }
}
