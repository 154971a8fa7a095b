import Foundation
import TestKit
import Testing

extension TownTests {
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
}
