import Destinations

// Which request a grant allows: functions of values, without I/O.

extension Grant {
  /// This grant, where a request at its own door names its host.
  /// - Parameter port: which a client inside believes that it speaks to.
  func judgeHost(of head: RequestHead, port: UInt16) throws(Denial) -> Grant {
    guard head.method != "CONNECT" else { throw Denial(rule: "grant \"\(name)\": CONNECT is for the proxy's listener") }
    guard head.endpoint == Endpoint(host: host, port: port) else {
      throw Denial(rule: "grant \"\(name)\" is for Host \(Endpoint(host: host, port: port)), not \(head.endpoint)")
    }
    return self
  }

  func route(for head: RequestHead) -> RoutePattern? {
    allow.first { $0.matches(method: head.method, target: head.target) }
  }

  var allowedInWords: String {
    let allowed = allow.isEmpty ? "nothing" : allow.prefix(8).map(\.description).joined(separator: ", ")
    return "grant \"\(name)\" allows \(allowed)"
  }

  /// - Parameters:
  ///   - path: the request's, as others may read it.
  ///   - most: bytes that a body may have.
  func judge(_ head: RequestHead, shown path: String, most: Int) throws(Denial) {
    guard route(for: head) != nil else {
      let query = head.path.utf8.count < head.target.utf8.count ? " with a query" : ""
      throw Denial(rule: "\(allowedInWords); \(head.method) \(path)\(query) matches none")
    }
    for field in head.fields where field.name.lowercased() == "expect" && field.value.lowercased() != "100-continue" {
      throw Denial(rule: "grant \"\(name)\": an Expect other than 100-continue", status: 400)
    }
    if case .length(let length) = head.framing, length > most {
      throw Denial(rule: "limit bodyBytes: \(length) bytes, and at most \(most) are passed on")
    }
  }
}

extension [Grant] {
  /// The one grant that CONNECT may reach an endpoint by.
  func tunnelled(to endpoint: Endpoint) throws(Denial) -> Grant {
    let named = filter { $0.endpoint == endpoint }
    guard let grant = named.first else { throw Denial(rule: "CONNECT \(endpoint): no grant names it") }
    guard named.count == 1 else {
      throw Denial(rule: "CONNECT \(endpoint): \(named.count) grants name it; one may")
    }
    guard grant.mode != .http else {
      let plain = Endpoint(host: grant.host, port: grant.listenPort)
      throw Denial(rule: "grant \"\(grant.name)\" is of mode http: ask for http://\(plain)/ without TLS")
    }
    return grant
  }

  /// The one grant that a request with an absolute URL is for.
  func requested(by head: RequestHead) throws(Denial) -> Grant {
    guard head.method != "CONNECT" else { throw Denial(rule: "CONNECT behind another request") }
    let named = filter { $0.mode == .http && $0.host == head.endpoint.host && $0.listenPort == head.endpoint.port }
    guard let grant = named.first else { throw Denial(rule: "http://\(head.endpoint): no grant of mode http names it") }
    guard named.count == 1 else {
      throw Denial(rule: "http://\(head.endpoint): \(named.count) grants name it; one may")
    }
    return grant
  }
}

extension RequestHead {
  var expectsContinue: Bool { fields.contains { $0.name.lowercased() == "expect" } }

  var asksToClose: Bool { fields.contains { $0.name.lowercased() == "connection" && $0.value.lowercased() == "close" } }
}
