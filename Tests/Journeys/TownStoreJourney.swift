import Foundation
import Jobs
import TestKit
import Testing

extension TownJourneys {
  @Test("curl and Python put, get and delete objects with a session's signature that is not theirs")
  func objects() async throws {
    let place = try await TownHouse.shared.value
    let (store, ours) = (place.store, place.store.credentials)
    let before = try store.requests().count
    let script = """
      cd /tmp; printf 'x,y\\n1,2\\n' > rates.csv
      url=http://s3.internal/books/2026
      curl -sS -w '%{http_code}\\n' -T rates.csv "$url/rates%201%2Ba.csv"
      curl -sS "$url/rates%201%2Ba.csv"
      curl -sS -o /dev/null -w '%{http_code}\\n' "$url/rates%201%2Ba.csv" -H 'x-amz-security-token: of-the-job' \
        -H 'Authorization: AWS4-HMAC-SHA256 Credential=OFTHEJOB/20261126/eu-central-1/s3/aws4_request, SignedHeaders=host, Signature=00'
      python3 -I - $url <<'END'
      import sys, urllib.request
      def ask(method, body=None):
          return urllib.request.urlopen(urllib.request.Request(sys.argv[1] + "/python", body, method=method))
      print(ask("PUT", b"from python").status, ask("GET").read(), ask("DELETE").status)
      END
      curl -sS "$url/python" | grep -o NoSuchKey
      env | grep -c 'ASIATOWN\\|town-se'
      """
    let (record, text, ledger) = try await place.run(script, grants: ["store"])
    #expect(text == "200\nx,y\n1,2\n200\n200 b'from python' 204\nNoSuchKey\n0\n")
    #expect(store.object("books/2026/rates 1+a.csv") == Data("x,y\n1,2\n".utf8))
    let asked = try store.requests().dropFirst(before)
    #expect(asked.map(\.method) == ["PUT", "GET", "GET", "PUT", "GET", "DELETE", "GET"])
    #expect(
      asked.allSatisfy {
        $0.authorization?.hasPrefix("AWS4-HMAC-SHA256 Credential=\(ours.key)/") == true
          && $0.headers["x-amz-security-token"] == ours.token
      })
    #expect(ledger.denials.isEmpty && ledger.count == 14)
    try await place.expectNoSecret(in: record)
  }

  @Test("the store takes no signature by another secret, and none without the session that the key belongs to")
  func otherSignatures() async throws {
    let place = try await TownHouse.shared.value
    try place.store.put("books/2026/there", Data("there\n".utf8))
    let script = "curl -sS http://s3.internal/books/2026/there | grep -o '<Code>[A-Za-z]*\\|^there'"
    for (grant, said) in [
      ("store", "there\n"), ("forged", "<Code>SignatureDoesNotMatch\n"), ("lasting", "<Code>InvalidToken\n"),
    ] {
      #expect(try await place.run(script, grants: [grant]).text == said)
    }
  }

  @Test("another bucket, another prefix and a presigned URL of the job's own are refused, and the store hears of none")
  func otherObjects() async throws {
    let place = try await TownHouse.shared.value
    let store = place.store
    for object in ["books/2026/ours", "books/2025/theirs", "salaries/2026/theirs"] {
      try store.put(object, Data("content".utf8))
    }
    let before = try store.requests().count
    let presigned =
      "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=OFTHEJOB/20261126/eu-central-1/s3/aws4_request"
      + "&X-Amz-Date=20261126T160000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature="
      + String(repeating: "0", count: 64)
    let ask = "ask() { curl -sS --path-as-is -o /dev/null -w '%{http_code}\\n' \"$@\"; }"
    let script = """
      \(ask)
      ask http://s3.internal/books/2025/theirs
      ask http://s3.internal/salaries/2026/theirs
      ask http://s3.internal/books/2026/../2025/theirs
      ask http://s3.internal/books/2026/%2e%2e/2025/theirs
      ask http://s3.internal/books/2026/..%2f2025%2ftheirs
      ask 'http://s3.internal/books?list-type=2'
      ask -X POST http://s3.internal/books/2026/ours
      ask -X PUT -d x http://s3.internal/books/2025/new
      ask 'http://s3.internal/books/2026/ours?\(presigned)'
      ask http://s3.internal/books/2026/ours
      """
    let (_, text, ledger) = try await place.run(script, grants: ["store"])
    let statuses = text.split(separator: "\n").map(String.init)
    #expect(statuses.count == 10 && statuses.dropLast().allSatisfy { $0 == "403" || $0 == "400" }, "\(statuses)")
    #expect(statuses.last == "200", "control")
    #expect(ledger.denials.count == 9, "\(ledger.denials)")
    #expect(ledger.denials.count { $0.contains("GET /books/2026/ours with a query matches none") } == 1)
    #expect(store.object("books/2025/new") == nil)
    // Where queries are allowed, one with a signature in it is not signed once more.
    let queries = """
      \(ask)
      ask 'http://s3.internal/books/2026/ours?\(presigned)'
      ask 'http://s3.internal/books/2026/ours?versionId=1'
      """
    let queried = try await place.run(queries, grants: ["queried"])
    #expect(queried.text == "403\n200\n")
    #expect(queried.ledger.decisions == ["denied", "allowed", "closed"])
    #expect(
      try store.requests().dropFirst(before).map(\.path) == ["/books/2026/ours", "/books/2026/ours?versionId=1"])
  }
}
