import Destinations
import NIOCore

// The door for clients that know proxies. It offers nothing that a grant's own door would not: CONNECT leads to a grant in the grant's
// own mode, an absolute http URL to a grant of mode http, and there are no other pages.

extension Connection {
  func serveProxy() async throws {
    let grants = session.grants
    let head: RequestHead
    do {
      guard let read = try await requestHead(isFirst: true, defaultPort: 80) else { return }
      head = read
    } catch let denial as Denial {
      session.deny(denial, .init(status: denial.status))
      return await answer(denial, to: nil)
    }
    guard head.method == "CONNECT" else {
      return try await serveRequests(first: head, defaultPort: 80) { head throws(Denial) in
        try grants.requested(by: head)
      }
    }
    let grant: Grant
    do throws(Denial) {
      grant = try grants.tunnelled(to: head.endpoint)
    } catch {
      session.deny(
        error, .init(endpoint: head.endpoint.description, method: "CONNECT", status: error.status))
      return await answer(error, to: "CONNECT")
    }
    try await inside.write("HTTP/1.1 200 Connection established\r\n\r\n")
    try await serve(grant, port: grant.port)
  }
}
