import Destinations
import NIOCore

/// What granted names were answered with a moment ago; a value, without I/O.
///
/// A client that opens many connections would else ask the host's resolver for each, which blocks and so is a thread of its own that has
/// to be woken. It is the attempt's own: what another attempt asked for cannot be told from how long an answer takes (NW-41). An answer is
/// judged anew at each use, and what is dialled is what was judged; errors are not kept.
struct RecentNames: Sendable {
  /// Shorter than what resolvers themselves keep an answer for.
  static let life = TimeAmount.seconds(1)

  private var answers: [String: (addresses: [IPAddress], until: NIODeadline)] = [:]

  func addresses(of name: String, at now: NIODeadline) -> [IPAddress]? {
    answers[name].flatMap { now < $0.until ? $0.addresses : nil }
  }

  mutating func keep(_ addresses: [IPAddress], of name: String, at now: NIODeadline) {
    answers[name] = (addresses, now + Self.life)
  }
}
