@testable import Broker

/// The head of an HTTP response, which a server sends that may be the job's accomplice.
enum ResponseHeads: Fuzzer {
  static var seeds: [[UInt8]] {
    [
      "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
      "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
      "HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n",
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    ].map { Array($0.utf8) }
  }

  static var words: [[UInt8]] {
    ["\r\n", "HTTP/1.1 ", "Content-Length: ", "Transfer-Encoding: ", "chunked", "Connection: close", " 304 "].map {
      Array($0.utf8)
    }
  }

  static func run(_ bytes: [UInt8]) {
    for method in ["GET", "HEAD"] {
      let reading = ResponseHead.read(bytes, answering: method)
      switch reading {
      case .incomplete: expect(bytes.count < HeadSection.mostBytes, "nobody is waited for without end")
      case .refused(let reason): expect(!reason.isEmpty && !reason.utf8.contains(10), "a refusal is one line")
      case .head(let head, let count):
        expect(count <= bytes.count && count <= HeadSection.mostBytes, "the head is a part of what came")
        expect(
          ResponseHead.read(Array(bytes.prefix(count)), answering: method) == reading,
          "what comes behind a head changes nothing of it")
        expect((100...599).contains(head.status) && head.status != 101, "its status is one that can be passed on")
        guard !head.isInterim else { continue }
        passOn(head, to: method)
      }
    }
  }

  /// What a job's client is sent reads as the same response.
  private static func passOn(_ head: ResponseHead, to method: String) {
    let out = Array(OutgoingHead.response(head, to: method, isLast: true).utf8)
    guard case .head(let again, let count) = ResponseHead.read(out, answering: method) else {
      // Our own two fields may be too many.
      return expect(
        out.count > HeadSection.mostBytes || head.fields.count + 2 > HeadSection.mostFields, "it is read again")
    }
    expect(count == out.count && again.status == head.status && !again.isPersistent, "it is the same response")
    switch head.framing {
    case .untilClose: expect(again.framing == .chunked, "its end is told")
    case .none where method == "GET" && head.status != 204 && head.status != 304: expect(false, "a body may be there")
    default: expect(again.framing == head.framing, "its body has the same length")
    }
  }
}
