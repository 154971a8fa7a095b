import Foundation
import Jobs
import TestKit

/// What the policy of the attacked house grants, and the servers that this leads to. They serve all houses of the process, on
/// addresses that no other process of this host has by accident.
enum Granted {
  static let upstream = Result {
    try Upstream(token: "token-\(UUID().uuidString)", owner: WorkerUser.id)
  }

  static func options(_ upstream: Upstream) -> [String] {
    ["--credentials", upstream.path("credentials.yaml"), "--egress-trust", upstream.path("ca.pem")]
  }

  /// For `House.amendPolicy`. `private` and `metadata` lead to addresses that are not listed; the name of `asked` is no host's.
  static func policy(_ upstream: Upstream) -> String {
    let near = #""allow_private": ["\#(upstream.network).0/24"]"#
    return """
      "grants": {
        "index": {"host": "index.internal", "port": 443, "mode": "http", "allow": ["GET /simple/*"], \(near),
          "credential": "index"},
        "plain": {"host": "index.internal", "port": 8443, "mode": "http", "listen": 81, "allow": ["GET /**"], \(near)},
        "fading": {"host": "fading.internal", "port": 443, "mode": "http", "allow": ["GET /**"], \(near),
          "credential": "fading"},
        "told": {"host": "other.internal", "port": 8443, "mode": "http", "listen": 82, "allow": ["POST /told"], \(near),
          "answer": "status"},
        "opaque": {"host": "other.internal", "port": 443, "mode": "opaque", \(near)},
        "seen": {"host": "seen.internal", "port": 443, "mode": "inspect", "allow": ["GET /seen"], \(near)},
        "raw": {"host": "raw.internal", "port": 7, "mode": "tcp", \(near)},
        "private": {"host": "private.internal", "port": 443, "mode": "opaque"},
        "metadata": {"host": "metadata.internal", "port": 80, "mode": "tcp"},
        "asked": {"host": "asked.attacker.test", "port": 443, "mode": "opaque"}}
      """
  }

  /// A member of a specification.
  static func asks(_ grants: [String]) -> [String: JSONValue] { ["grants": .array(grants.map(JSONValue.string))] }
}

extension Evidence {
  /// The ledger of its job.
  func ledger() async throws -> [JSONValue] { try await house!.ledger(job) }

  var upstream: Upstream { house!.upstream! }
}

extension [JSONValue] {
  /// The rules of those lines of a ledger that are refusals.
  var denials: [String] { filter { $0["decision"] == .string("denied") }.compactMap { $0["rule"]?.string } }
  /// The grants by which something was allowed, a name a line.
  var allowed: [String] { filter { $0["decision"] == .string("allowed") }.compactMap { $0["grant"]?.string } }
}

extension Place {
  /// A word that nobody else asks for.
  var mark: String { path.suffix(12).lowercased() }
}
