/// The head of an HTTP/1.1 response, read as strictly as a request's.
///
/// Where it could be read in two ways about its length, the job's client might take the end of one response for the beginning of another
/// one. Such a response is not passed on.
public struct ResponseHead: Equatable, Sendable {
  /// How long the body is.
  public enum Framing: Equatable, Sendable {
    case none
    case length(Int)
    case chunked
    /// RFC 9112, 6.3: where nothing is said, it lasts until the connection ends.
    case untilClose
  }

  public enum Reading: Equatable, Sendable {
    case incomplete
    /// The head, and how many bytes it had.
    case head(ResponseHead, bytes: Int)
    case refused(String)
  }

  public let status: Int
  public let reason: String
  public let fields: [HeadSection.Field]
  public let framing: Framing
  /// Whether the server keeps the connection for another request.
  public let isPersistent: Bool

  /// A status between the request and its answer, such as 100.
  public var isInterim: Bool { status < 200 }

  /// - Parameters:
  ///   - bytes: what has come of the response so far, from its beginning.
  ///   - method: of the request, on which it depends whether there is a body.
  public static func read(_ bytes: [UInt8], answering method: String) -> Reading {
    do throws(HeadSection.Refusal) {
      guard let (section, bytes) = try HeadSection.read(bytes) else { return .incomplete }
      return .head(try ResponseHead(section, answering: method), bytes: bytes)
    } catch {
      return .refused(error.reason)
    }
  }

  private init(_ section: HeadSection, answering method: String) throws(HeadSection.Refusal) {
    let line = section.start.split(separator: 32, maxSplits: 2, omittingEmptySubsequences: false)
    let version = line.first.map { String(decoding: $0, as: UTF8.self) }
    guard line.count >= 2, version == "HTTP/1.1" || version == "HTTP/1.0" else {
      throw HeadSection.Refusal("a status line of another protocol than HTTP/1.1 or HTTP/1.0")
    }
    guard line[1].count == 3, let status = Int(String(decoding: line[1], as: UTF8.self)), (100...599).contains(status)
    else { throw HeadSection.Refusal("a status that is no number from 100 to 599") }
    // Another protocol would follow, in which nothing could be judged.
    guard status != 101 else { throw HeadSection.Refusal("a switch of protocols") }
    self.status = status
    reason = line.count == 3 ? String(decoding: line[2], as: UTF8.self) : ""
    fields = section.fields
    let connection = section.values("connection").flatMap { $0.lowercased().split(separator: ",") }
      .map { String($0.filter { $0 != " " && $0 != "\t" }) }
    isPersistent = version == "HTTP/1.1" && !connection.contains("close")
    let said = try section.framing()
    guard version == "HTTP/1.1" || said != .chunked else { throw HeadSection.Refusal("a chunked body in HTTP/1.0") }
    if status < 200 || status == 204 {
      guard said == .none || said == .length(0) else { throw HeadSection.Refusal("a body where none can be") }
    }
    switch said {
    case _ where method == "HEAD" || status < 200 || status == 204 || status == 304: framing = .none
    case .none: framing = .untilClose
    case .length(let length): framing = .length(length)
    case .chunked: framing = .chunked
    }
  }
}
