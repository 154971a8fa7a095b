import Jobs

@testable import Broker
@testable import Destinations

/// What a job sends to the door of CONNECT, and which grant it is led to.
enum ProxyRequests: Fuzzer {
  private static let grants: [Grant] = {
    func grant(_ name: String, _ mode: String, _ more: [String: JSONValue]) -> Grant {
      let members: [String: JSONValue] = ["host": .string("packages.internal"), "mode": .string(mode)]
      guard let grant = try? Grant(name: name, json: .object(members.merging(more) { $1 })) else {
        fatalError("a grant of the fuzzer's own")
      }
      return grant
    }
    return [
      grant("files", "http", ["port": .integer(443), "allow": .array([.string("GET /simple/*")])]),
      grant("tunnel", "opaque", ["port": .integer(8443)]), grant("database", "tcp", ["port": .integer(5432)]),
    ]
  }()

  static var seeds: [[UInt8]] {
    [
      "CONNECT packages.internal:8443 HTTP/1.1\r\nHost: packages.internal:8443\r\n\r\n",
      "CONNECT packages.internal:443 HTTP/1.1\r\nHost: packages.internal:443\r\n\r\n",
      "GET http://packages.internal/simple/a HTTP/1.1\r\nHost: packages.internal\r\n\r\n",
      "GET /simple/a?b HTTP/1.1\r\nHost: packages.internal\r\nAuthorization: x\r\nContent-Length: 1\r\n\r\n",
    ].map { Array($0.utf8) }
  }

  static func run(_ bytes: [UInt8]) {
    guard case .head(let head, _) = RequestHead.read(bytes) else { return }
    do throws(Denial) {
      guard head.method != "CONNECT" else {
        let grant = try grants.tunnelled(to: head.endpoint)
        return expect(grant.endpoint == head.endpoint && grant.mode != .http, "CONNECT leads where it says")
      }
      let grant = try grants.requested(by: head)
      try grant.judge(head, most: 1_000)
      expect(grant.mode == .http && grant.host == head.endpoint.host, "a request leads where it says")
      expect(head.method == "GET" && head.path.hasPrefix("/simple/") && head.target == head.path, "and is allowed")
      let out = Array(OutgoingHead.request(head, to: grant.endpoint, injected: []).utf8)
      guard case .head(let again, let count) = RequestHead.read(out, defaultPort: 443) else {
        return expect(out.count > HeadSection.mostBytes, "what goes out is read again")
      }
      expect(count == out.count && again.endpoint == grant.endpoint && again.framing == head.framing, "as the same")
      expect(!again.fields.contains { $0.name.lowercased() == "authorization" }, "without the job's identity")
    } catch {
      expect(!error.rule.utf8.contains { $0 < 32 || $0 > 126 }, "a denial is one line")
    }
  }
}
