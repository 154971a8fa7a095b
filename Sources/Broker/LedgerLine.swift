import Crypto
import Destinations
import FoundationEssentials
import Jobs
import Policies

/// One decision of the broker, chained to the one before it.
///
/// No injected value and no query is in it; all texts are what a parser of the broker has let through, so no byte of one can begin
/// another line.
public struct LedgerLine: Sendable, Equatable {
  public enum Decision: String, Sendable {
    case allowed
    case denied
    /// The end of what was allowed, with its bytes.
    case closed
  }

  /// From 1.
  public let seq: Int64
  /// RFC 3339, UTC.
  public let at: String
  public let decision: Decision
  /// What decided, in words.
  public let rule: String
  public let subject: Subject
  public let previous: Jobs.Digest
  public let hash: Jobs.Digest
  /// RFC 8785, with the hash in it: what is stored and verified.
  public let json: String

  /// What a decision is about; what is not known is nil.
  public struct Subject: Sendable, Equatable {
    public var grant: String?
    public var endpoint: String?
    /// The addresses that may be dialled, or the one that was.
    public var address: String?
    public var method: String?
    /// Without its query.
    public var path: String?
    public var status: Int?
    /// Bytes from the job and to the job.
    public var sent: Int64 = 0
    public var received: Int64 = 0

    /// A longer path is cut, and says so by its digest.
    static let longestPath = 1_024

    static func shortened(_ path: String) -> String {
      guard path.utf8.count > longestPath else { return path }
      let digest = Jobs.Digest(sha256: SHA256.hash(data: Data(path.utf8)))
      return "\(path.prefix(longestPath))...\(digest)"
    }
  }

  init(seq: Int64, at: String, decision: Decision, rule: String, subject: Subject, previous: Jobs.Digest) {
    self.seq = seq
    self.at = at
    self.decision = decision
    self.rule = rule
    self.subject = subject
    self.previous = previous
    // Written once, by hand: a new connection costs two lines, and a dictionary would be made and sorted twice for each. A test compares
    // it with the general writer.
    func text(_ value: String?) -> String { value.map(CanonicalJSON.quoted) ?? "null" }
    let before = """
      {"address":\(text(subject.address)),"at":\(text(at)),"decision":"\(decision.rawValue)",\
      "endpoint":\(text(subject.endpoint)),"grant":\(text(subject.grant)),
      """
    let behind = """
      "method":\(text(subject.method)),"path":\(text(subject.path)),"previous":"\(previous)",\
      "received":\(subject.received),"rule":\(text(rule)),"sent":\(subject.sent),"seq":\(seq),\
      "status":\(subject.status.map(String.init) ?? "null")}
      """
    hash = Jobs.Digest(sha256: SHA256.hash(data: Data((before + behind).utf8)))
    json = "\(before)\"hash\":\"\(hash)\",\(behind)"
  }

  /// The digest of the line without its hash.
  static func hash(of members: [String: JSONValue]) -> Jobs.Digest {
    Jobs.Digest(sha256: SHA256.hash(data: Data(text(.object(members)).utf8)))
  }

  static func text(_ value: JSONValue) -> String {
    // Its numbers are counts below 2^53, or the line would not be the canonical text of itself when it is verified.
    (try? CanonicalJSON.text(value)) ?? ""
  }
}
