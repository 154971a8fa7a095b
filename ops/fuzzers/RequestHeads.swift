@testable import Broker
@testable import Destinations

/// The head of an HTTP request, which a job sends.
enum RequestHeads: Fuzzer {
  static var seeds: [[UInt8]] {
    [
      "GET /simple/a/?b=c HTTP/1.1\r\nHost: packages.internal\r\nAccept: */*\r\n\r\n",
      "POST http://logs.internal:8080/v1 HTTP/1.1\r\nHost: logs.internal:8080\r\nContent-Length: 3\r\n\r\nabc",
      "CONNECT packages.internal:443 HTTP/1.1\r\nHost: packages.internal:443\r\n\r\n",
      "PUT / HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\n\r\n",
    ].map { Array($0.utf8) }
  }

  static var words: [[UInt8]] {
    [
      "\r\n", "Host: ", "Content-Length: ", "Transfer-Encoding: ", "chunked", " HTTP/1.1\r\n", "http://", "..", "%2e",
      "%2f", ":443",
      "CONNECT ",
    ].map { Array($0.utf8) }
  }

  static func run(_ bytes: [UInt8]) {
    let reading = RequestHead.read(bytes)
    switch reading {
    case .incomplete: expect(bytes.count < RequestHead.mostBytes, "nobody is waited for without end")
    case .refused(let reason): expect(!reason.isEmpty && !reason.utf8.contains(10), "a refusal is one line")
    case .head(let head, let count):
      expect(count <= bytes.count && count <= RequestHead.mostBytes, "the head is a part of what came")
      expect(RequestHead.read(Array(bytes.prefix(count))) == reading, "what comes behind a head changes nothing of it")
      expect(head.fields.count { $0.name.lowercased() == "host" } == 1, "it is for one host")
      let framings = head.fields.count { ["content-length", "transfer-encoding"].contains($0.name.lowercased()) }
      expect(framings == (head.framing == .none ? 0 : 1), "its length is said once")
      expect((try? Endpoint(authority: "\(head.endpoint)")) == head.endpoint, "its endpoint has one spelling")
      let parts = head.path.split(separator: "/", omittingEmptySubsequences: false)
      expect(!parts.contains("..") && !parts.contains("."), "its path has no dots to follow")
      let line = "\(head.method) \(head.target)"
      expect(!line.utf8.contains { $0 <= 31 || $0 == 127 }, "nothing of it begins another line")
    }
  }
}
