import Destinations
import Testing

@testable import Broker

@Suite struct RequestHeadTests {
  private func read(_ text: String) -> RequestHead.Reading { RequestHead.read(Array(text.utf8)) }

  @Test func aRequestIsReadOnceAndWhole() throws {
    let text =
      "GET /simple/requests/?a=b HTTP/1.1\r\nHost: Packages.internal:8080\r\nAccept:  text/html \r\nX-Empty:\r\n\r\nbody"
    guard case .head(let head, let bytes) = read(text) else {
      Issue.record("\(read(text))")
      return
    }
    #expect(bytes == text.utf8.count - 4)
    #expect(head.method == "GET" && head.target == "/simple/requests/?a=b" && head.path == "/simple/requests/")
    #expect(head.endpoint.description == "packages.internal:8080" && head.framing == .none)
    #expect(head.fields.map(\.value) == ["Packages.internal:8080", "text/html", ""])
    // However it comes in pieces, it is the same.
    for end in 0..<bytes { #expect(RequestHead.read(Array(text.utf8.prefix(end))) == .incomplete) }
  }

  @Test(
    arguments: [
      ("GET http://a.b/x HTTP/1.1\r\nHost: a.b\r\n\r\n", "a.b:80", "/x", .none),
      ("GET http://A.b:80?q HTTP/1.1\r\nHost: a.B:80\r\n\r\n", "a.b:80", "/?q", .none),
      ("CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\n\r\n", "a.b:443", "", .none),
      ("POST / HTTP/1.1\r\nhost: [::1]:1\r\nContent-Length: 12\r\n\r\n", "[::1]:1", "/", .length(12)),
      ("POST / HTTP/1.1\r\nHOST: a.b\r\nTransfer-Encoding: Chunked\r\n\r\n", "a.b:80", "/", .chunked),
    ] as [(String, String, String, RequestHead.Framing)])
  func forms(text: String, endpoint: String, target: String, framing: RequestHead.Framing) {
    guard case .head(let head, _) = read(text) else {
      Issue.record("\(read(text))")
      return
    }
    #expect(head.endpoint.description == endpoint && head.target == target && head.framing == framing)
  }

  @Test("a method that is longer than any that is registered is refused")
  func longMethod() {
    func method(_ count: Int) -> RequestHead.Reading {
      read(String(repeating: "M", count: count) + " / HTTP/1.1\r\nHost: a.b\r\n\r\n")
    }
    #expect(method(33) == .refused("a method of more than 32 bytes"))
    guard case .head(let head, _) = method(32) else {
      Issue.record("\(method(32))")
      return
    }
    #expect(head.method.count == 32)
  }

  @Test(
    "NW-17: what two servers could read in two ways is refused",
    arguments: [
      "GET / HTTP/1.0\r\nHost: a.b\r\n\r\n", "GET / HTTP/2.0\r\nHost: a.b\r\n\r\n", "GET /\r\nHost: a.b\r\n\r\n",
      "GET  / HTTP/1.1\r\nHost: a.b\r\n\r\n", " GET / HTTP/1.1\r\nHost: a.b\r\n\r\n",
      "\r\nGET / HTTP/1.1\r\nHost: a.b\r\n\r\n",
      "G(T / HTTP/1.1\r\nHost: a.b\r\n\r\n", "GET / HTTP/1.1 \r\nHost: a.b\r\n\r\n",
      "GET /\tHTTP/1.1\r\nHost: a.b\r\n\r\n",
      "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a.b\r\nHost: a.b\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a.b\r\nhost: c.d\r\n\r\n",
      "GET / HTTP/1.1\r\nHost : a.b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a.b\r\n X: y\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a.b\nX: y\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a.b\r\nX: y\rz\r\n\r\n", "GET / HTTP/1.1\r\nHost: a.b\r\nX: y\0z\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a.b\r\nX: \u{e9}\r\n\r\n", "GET / HTTP/1.1\r\nHost: a.b\r\nno colon\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a.b\r\n: x\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a.b, c.d\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: user@a.b\r\n\r\n", "GET http://c.d/ HTTP/1.1\r\nHost: a.b\r\n\r\n",
      "GET http://a.b@c.d/ HTTP/1.1\r\nHost: a.b\r\n\r\n", "GET http://a.b:81/ HTTP/1.1\r\nHost: a.b\r\n\r\n",
      "GET https://a.b/ HTTP/1.1\r\nHost: a.b\r\n\r\n", "GET ftp://a.b/ HTTP/1.1\r\nHost: a.b\r\n\r\n",
      "GET a.b HTTP/1.1\r\nHost: a.b\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a.b\r\n\r\n",
      "CONNECT a.b:443 HTTP/1.1\r\nHost: c.d:443\r\n\r\n", "CONNECT a.b HTTP/1.1\r\nHost: a.b\r\n\r\n",
      "CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\n\r\n",
      "CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\nContent-Length: 1\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a.b\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a.b\r\nContent-Length: 1, 1\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a.b\r\nContent-Length: +1\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a.b\r\nContent-Length: 0x1\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a.b\r\nContent-Length:\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a.b\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a.b\r\nContent-Length: 99999999999999999999\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a.b\r\nContent_Length: 1\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a.b\r\nUpgrade: h2c\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a.b\r\nConnection: close, Host\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a.b\r\nX-HTTP-Method-Override: PUT\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a.b\r\nX-Original-URL: /admin\r\n\r\n",
    ])
  func ambiguous(text: String) {
    guard case .refused(let reason) = read(text) else {
      Issue.record("\(text.debugDescription): \(read(text))")
      return
    }
    #expect(!reason.isEmpty && !reason.contains("\n"))
  }

  @Test(
    "a query may hold what a path may not hide: nobody takes it for a part of the path",
    arguments: ["/a?prefix=2026%2F", "/?a=%2e%2e%2f", "/a?b=%25&c=%3b%5c", "/a?b=/../c"])
  func queries(target: String) {
    guard case .head(let head, _) = read("GET \(target) HTTP/1.1\r\nHost: a.b\r\n\r\n") else {
      Issue.record("\(target)")
      return
    }
    #expect(head.target == target)
  }

  @Test(
    "a path means one thing",
    arguments: [
      "/a/../b", "/..", "/./a", "/a//b", "//a", "/%2e%2e/b", "/a%2Fb", "/a%5cb", "/a%00", "/a%", "/a%2", "/a%zz",
      "/a%252e", "/a\\b",
      "/a b", "/a\"b", "/a<b>", "/a#b", "/{a}", "/a|b", "/a^b", "/a`b", "/?a=%00", "/?a=%0a", "/?a=%2", "/%2e?a=b",
      "/a%0d%0aX:%20y",
      "/public/..;/admin", "/x/.;a/b", "/;/a", "/a/;x", "/a%3b", "/%c0%ae%c0%ae/b", "/%e0%80%af", "/%ff",
    ])
  func paths(target: String) {
    guard case .refused = read("GET \(target) HTTP/1.1\r\nHost: a.b\r\n\r\n") else {
      Issue.record("\(target)")
      return
    }
  }

  @Test(arguments: [
    "/", "/a/", "/a/b.c", "/a?b=/../c", "/a%20b", "/~x/(y)!", "/..a/b..", "/a;v=1", "/@scope/pkg", "/%C3%BC",
    "/a;v=1/b",
  ])
  func plainPaths(target: String) {
    guard case .head(let head, _) = read("GET \(target) HTTP/1.1\r\nHost: a.b\r\n\r\n") else {
      Issue.record("\(target)")
      return
    }
    #expect(head.target == target)
  }

  @Test func nothingEndlessIsWaitedFor() {
    let endless = "GET / HTTP/1.1\r\nHost: a.b\r\nX: " + String(repeating: "y", count: RequestHead.mostBytes)
    #expect(read(endless) == .refused("a head of more than \(RequestHead.mostBytes) bytes"))
    let many = "GET / HTTP/1.1\r\nHost: a.b\r\n" + String(repeating: "X: y\r\n", count: HeadSection.mostFields) + "\r\n"
    #expect(read(many) == .refused("more than \(HeadSection.mostFields) fields"))
    #expect(read("GET / HTTP/1.1\nHost") == .refused("a line that ends in a bare line feed"))
  }
}
