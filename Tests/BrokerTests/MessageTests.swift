import Destinations
import NIOCore
import Testing

@testable import Broker

/// Heads of responses, bodies, and what of a message is passed on: values, without I/O.
@Suite struct MessageTests {
  @Test(
    arguments: [
      ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "GET", .length(3), true),
      ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "HEAD", .none, true),
      ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nConnection: Close\r\n\r\n", "GET", .chunked, false),
      ("HTTP/1.0 200 OK\r\n\r\n", "GET", .untilClose, false),
      ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "GET", .none, true),
      ("HTTP/1.1 204 No Content\r\n\r\n", "GET", .none, true),
    ] as [(String, String, ResponseHead.Framing, Bool)])
  func answers(text: String, method: String, framing: ResponseHead.Framing, isPersistent: Bool) {
    guard case .head(let head, let bytes) = ResponseHead.read(Array(text.utf8), answering: method) else {
      Issue.record("\(ResponseHead.read(Array(text.utf8), answering: method))")
      return
    }
    #expect(bytes == text.utf8.count && head.framing == framing && head.isPersistent == isPersistent)
    for end in 0..<bytes {
      #expect(ResponseHead.read(Array(text.utf8.prefix(end)), answering: method) == .incomplete)
    }
  }

  @Test(arguments: [
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "HTTP/1.1 200 OK\nA: b\n\n",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 204 No\r\nContent-Length: 1\r\n\r\n",
    "HTTP/1.1 101 Switch\r\n\r\n", "HTTP/1.1 099 No\r\n\r\n", "HTTP/1.1 2000 No\r\n\r\n", "HTTP/1.1 +20 No\r\n\r\n",
    "HTTP/3 200 OK\r\n\r\n", "ICY 200 OK\r\n\r\n", "\r\n\r\n",
  ])
  func noAnswers(text: String) {
    guard case .refused(let reason) = ResponseHead.read(Array(text.utf8), answering: "GET") else {
      Issue.record("it was taken")
      return
    }
    #expect(!reason.isEmpty)
  }

  /// What comes out of a body that comes in pieces of a size, and what is left behind it.
  private func decode(
    _ text: String, _ framing: RequestHead.Framing, pieces: Int, most: Int = 100
  ) throws -> (body: String, rest: String, isDone: Bool) {
    var decoder = try BodyDecoder(framing, most: most)
    var body = ""
    var rest = ""
    var left = Array(text.utf8)[...]
    while !left.isEmpty {
      var input = ByteBuffer(bytes: left.prefix(pieces))
      left = left.dropFirst(pieces)
      while let piece = try decoder.next(&input) { body += String(buffer: piece) }
      rest += String(buffer: input)
    }
    return (body, rest, decoder.isDone)
  }

  @Test(arguments: 1...12) func bodiesAreReadInWhateverPiecesTheyCome(pieces: Int) throws {
    let chunked = try decode("3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nGET", .chunked, pieces: pieces)
    #expect(chunked.body == "abc0123456789" && chunked.rest == "GET" && chunked.isDone)
    let length = try decode("abcGET", .length(3), pieces: pieces)
    #expect(length.body == "abc" && length.rest == "GET" && length.isDone)
  }

  @Test(arguments: [
    "3;a=b\r\nabc\r\n0\r\n\r\n", "3\nabc\n0\n\n", "0x3\r\nabc", "-1\r\n", "3 \r\nabc", "\r\nabc", "3\r\nabcd\r\n",
    "0\r\nTrailer: x\r\n\r\n", "10000000000000000\r\n", "g\r\n", "3\r\rabc", "`\r\n",
    "65\r\n\(String(repeating: "x", count: 101))",
  ])
  func bodiesThatSomeReadOtherwise(text: String) {
    #expect(throws: BodyDecoder.Refusal.self) { _ = try decode(text, .chunked, pieces: 200) }
  }

  @Test func aBodyThatBreaksOffIsNoWholeOne() throws {
    var decoder = try BodyDecoder(RequestHead.Framing.length(3), most: 3)
    #expect(throws: BodyDecoder.Refusal.self) { try decoder.end() }
    #expect(throws: BodyDecoder.Refusal.self) { _ = try BodyDecoder(RequestHead.Framing.length(4), most: 3) }
  }

  @Test("NW-34: whatever a job identifies itself by stays here, and what describes its request goes out")
  func identities() throws {
    let text = """
      GET /a HTTP/1.1\r\nHost: a.b\r\nAuthorization: x\r\nProxy-Authorization: x\r\nCookie: x\r\nX-Api-Key: x\r
      PRIVATE-TOKEN: x\r\nX-Goog-Api-Key: x\r\nX-Amz-Security-Token: x\r\nX-Forwarded-For: x\r\nKeep-Alive: x\r
      TE: trailers\r\nConnection: close\r\nAccept: y\r\nRange: y\r\nIf-None-Match: y\r\nUser-Agent: y\r\n\r\n
      """
    guard case .head(let head, _) = RequestHead.read(Array(text.utf8)) else {
      Issue.record("\(RequestHead.read(Array(text.utf8)))")
      return
    }
    let out = OutgoingHead.request(
      head, to: try Endpoint(authority: "a.b:443"), injected: [.init(name: "user-agent", value: "ours")])
    #expect(
      out == "GET /a HTTP/1.1\r\nHost: a.b\r\nAccept: y\r\nRange: y\r\nIf-None-Match: y\r\nuser-agent: ours\r\n\r\n")
  }
}
