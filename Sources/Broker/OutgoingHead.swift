import Destinations

/// What of a message is passed on, in the broker's own spelling: nothing reaches the other side that was not read here.
enum OutgoingHead {
  /// The broker's own word in each message, whoever else would say it.
  static let ownFields: Set = [
    "host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect",
    "http2-settings", "via", "forwarded", "x-real-ip", "alt-svc",
  ]

  /// Who a request is from is what the grant's credential says, or nobody: a job that brings an account of its own to an allowed
  /// service has found a way out. Parts of names, since every service has its own.
  private static let identifying = [
    "authorization", "authentication", "cookie", "token", "api-key", "apikey", "secret", "credential", "password",
    "signature", "session", "x-auth", "x-amz-", "x-goog-", "x-ms-", "subscription-key", "access-key",
  ]

  /// - Parameter injected: fields of the grant's credential.
  static func request(_ head: RequestHead, to endpoint: Endpoint, injected: [HeadSection.Field]) -> String {
    let own = Set(injected.map { $0.name.lowercased() })
    var text = "\(head.method) \(head.target) HTTP/1.1\r\nHost: \(host(of: endpoint))\r\n"
    for field in kept(of: head).filter({ !own.contains($0.name.lowercased()) }) + injected {
      text += "\(field.name): \(field.value)\r\n"
    }
    switch head.framing {
    case .none: if ["POST", "PUT", "PATCH"].contains(head.method) { text += "Content-Length: 0\r\n" }
    case .length(let length): text += "Content-Length: \(length)\r\n"
    case .chunked: text += "Transfer-Encoding: chunked\r\n"
    }
    return text + "\r\n"
  }

  static func kept(of head: RequestHead) -> [HeadSection.Field] {
    head.fields.filter { field in
      let name = field.name.lowercased()
      return !ownFields.contains(name) && !name.hasPrefix("proxy-") && !name.hasPrefix("x-forwarded-")
        && !identifying.contains { name.contains($0) }
    }
  }

  static func host(of endpoint: Endpoint) -> String {
    endpoint.port == 443 ? "\(endpoint.host)" : "\(endpoint)"
  }

  /// What a grant whose answer is the status tells the job.
  static func status(of head: ResponseHead, isLast: Bool) -> String {
    let length = head.status == 204 || head.status == 304 ? "" : "Content-Length: 0\r\n"
    return "HTTP/1.1 \(head.status) \r\n\(length)" + (isLast ? "Connection: close\r\n\r\n" : "\r\n")
  }

  /// - Parameter isLast: whether the job's connection ends behind this response.
  static func response(_ head: ResponseHead, to method: String, isLast: Bool) -> String {
    var text = "HTTP/1.1 \(head.status) \(head.reason)\r\n"
    for field in head.fields {
      let name = field.name.lowercased()
      // A session that the server opened for the injected identity is as good as the credential.
      guard !ownFields.contains(name), !name.hasPrefix("proxy-"), !name.hasPrefix("set-cookie") else { continue }
      text += "\(field.name): \(field.value)\r\n"
    }
    switch head.framing {
    case .none:
      // What a GET would have had, which is what HEAD asks.
      if method == "HEAD", let length = head.fields.first(where: { $0.name.lowercased() == "content-length" }) {
        text += "Content-Length: \(length.value)\r\n"
      }
    case .length(let length): text += "Content-Length: \(length)\r\n"
    case .chunked, .untilClose: text += "Transfer-Encoding: chunked\r\n"
    }
    return text + (isLast ? "Connection: close\r\n\r\n" : "\r\n")
  }
}

extension Denial {
  /// What a client of HTTP is sent: the line as JSON. It is plain ASCII without line ends.
  func answer(to method: String?) -> String {
    let words = [400: "Bad Request", 502: "Bad Gateway"][status] ?? "Forbidden"
    let escaped = line.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
    let body = "{\"error\":\"\(escaped)\"}\n"
    return "HTTP/1.1 \(status) \(words)\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n"
      + "Cache-Control: no-store\r\nConnection: close\r\n\r\n" + (method == "HEAD" ? "" : body)
  }
}
