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

    /// Bytes of a path; this many stand for all of one that the broker's patterns can mean.
    static let longestPath = 1_024

    static func shortened(_ path: String) -> String { LedgerLine.shortened(path, to: longestPath) }

    /// As it may stand in a line, whatever it holds.
    func bounded() -> Subject {
      var subject = self
      subject.grant = grant.map { LedgerLine.shortened($0, to: 256) }
      subject.endpoint = endpoint.map { LedgerLine.shortened($0, to: 512) }
      subject.address = address.map { LedgerLine.shortened($0, to: 512) }
      subject.method = method.map { LedgerLine.shortened($0, to: 128) }
      subject.path = path.map(Self.shortened)
      return subject
    }
  }

  /// Bytes of a line: the database takes no longer one (migration 0042), and a line that it refuses ends the whole ledger. The parts
  /// that are cut, their digests and the numbers come to less.
  public static let mostBytes = 8_192
  static let longestRule = 4_096

  /// A longer text is cut, and says so by its digest.
  /// - Parameter most: bytes that it has in JSON, without the quotation marks.
  static func shortened(_ text: String, to most: Int) -> String {
    // No byte becomes more than six.
    guard text.utf8.count > most / 6, quotedBytes(text) > most else { return text }
    var (kept, bytes) = (String.UnicodeScalarView(), 0)
    for scalar in text.unicodeScalars {
      bytes += quotedBytes(String(scalar))
      guard bytes <= most else { break }
      kept.append(scalar)
    }
    return String(kept) + cutMark + Jobs.Digest(sha256: SHA256.hash(data: Data(text.utf8))).description
  }

  private static let cutMark = "..."

  /// Whether it ends as one that was cut.
  static func isShortened(_ text: String) -> Bool {
    let end = text.utf8.suffix(cutMark.utf8.count + "sha256:".utf8.count + 64)
    return end.starts(with: cutMark.utf8)
      && Jobs.Digest(String(decoding: end.dropFirst(cutMark.utf8.count), as: UTF8.self)) != nil
  }

  private static func quotedBytes(_ text: String) -> Int { CanonicalJSON.quoted(text).utf8.count - 2 }

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
