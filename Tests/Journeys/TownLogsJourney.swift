import Foundation
import Jobs
import TestKit
import Testing

extension TownJourneys {
  @Test("a job posts to the ingest, the account is the worker's, and any other request is refused with its reason")
  func ingest() async throws {
    let place = try await TownHouse.shared.value
    let before = try place.logs.requests().count
    let script = """
      curl -sS http://logs.internal/ingest -H 'Authorization: Bearer of-the-job' -H 'X-Api-Key: of-the-job' \
        -H 'Cookie: of=the-job' --data-binary '{"message":"grüße"}'
      curl -sS http://logs.internal/ingest
      curl -sS http://logs.internal/other -d x
      curl -sS 'http://logs.internal/ingest?to=elsewhere' -d x
      curl -sS -X PUT http://logs.internal/ingest -d x
      env | grep -c town-ingest
      """
    let (record, text, ledger) = try await place.run(script, grants: ["ingest"])
    let rule = #"{"error":"cordon: denied: grant \"ingest\" allows POST /ingest; "#
    #expect(
      text == """
        {"taken": 21}
        \(rule)GET /ingest matches none"}
        \(rule)POST /other matches none"}
        \(rule)POST /ingest with a query matches none"}
        \(rule)PUT /ingest matches none"}
        0

        """)
    let taken = try place.logs.requests().dropFirst(before)
    #expect(taken.map(\.method) == ["POST"] && taken.map(\.path) == ["/ingest"])
    let request = try #require(taken.first)
    #expect(request.body == Data(#"{"message":"grüße"}"#.utf8))
    #expect(request.authorization == "Bearer \(place.secrets.ingest)")
    #expect(!request.headers.values.contains { $0.contains("the-job") }, "\(request.headers)")
    #expect(ledger.decisions == ["allowed", "closed", "denied", "denied", "denied", "denied"])
    try await place.expectNoSecret(in: record)
  }

  @Test("real clients in the cell write to rsyslog over TLS from end to end; under another name they may not")
  func syslog() async throws {
    let place = try await TownHouse.shared.value
    let before = place.logs.lines().count
    let (byNewline, framed) = (
      "<134>1 2026-11-26T16:00:01.000000Z cell job 7 - - by openssl",
      "<165>1 2026-11-26T16:00:00.000000Z cell job 8 - - by python"
    )
    let script = """
      printf '%s\\n' '\(byNewline)' | openssl s_client -brief -verify_return_error -CAfile $SSL_CERT_FILE \
        -verify_hostname logs.internal -servername logs.internal -connect logs.internal:6514 2>&1 | grep '^Verif'
      python3 -I - '\(framed.utf8.count) \(framed)' <<'END'
      import os, socket, ssl, sys
      context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
      with context.wrap_socket(socket.create_connection(("logs.internal", 6514)), server_hostname="logs.internal") as s:
          s.sendall(sys.argv[1].encode())
          print("sent")
      END
      echo '<134>1 - - - - - - never' | openssl s_client -brief -verify_return_error -CAfile $SSL_CERT_FILE \
        -servername pypi.internal -connect logs.internal:6514 >/dev/null 2>&1 || echo another name failed
      """
    let (_, text, ledger) = try await place.run(script, grants: ["syslog"])
    #expect(text == "Verification: OK\nVerified peername: logs.internal\nsent\nanother name failed\n")
    try await eventually("both lines have come") { place.logs.lines().count >= before + 2 }
    #expect(Set(place.logs.lines().dropFirst(before)) == [byNewline, framed])
    #expect(ledger.count { $0["decision"] == .string("allowed") } == 2)
    let denied = ledger.compactMap { $0["decision"] == .string("denied") ? $0["rule"]?.string : nil }
    #expect(denied.count == 1 && denied.first?.contains("pypi.internal") == true, "\(denied)")
  }

  @Test("logger writes to a plain collector through mode tcp")
  func logger() async throws {
    let place = try await TownHouse.shared.value
    let (visits, ledger) = try await place.caught(
      by: "logger --tcp --server trap.test --port 443 --rfc5424=notime,notq,nohost --tag job 'by logger'")
    #expect(visits.count == 1 && visits.first?.contains("job - - - by logger") == true, "\(visits)")
    #expect(ledger.decisions == ["allowed", "closed"], "\(ledger.denials)")
    #expect(ledger.last?["sent"]?.integer == visits.first.map { Int64($0.utf8.count) })
  }
}
