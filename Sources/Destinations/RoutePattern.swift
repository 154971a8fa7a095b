/// A rule of what may be asked of a server: a method and a path, as in `GET /simple/*/`.
///
/// `*` stands for one or more characters of one path segment, `**` as the last segment for any rest, the empty one included. A query is
/// allowed only where the pattern ends with `?*`: what stands in one is chosen freely by the job, and nobody matches it.
public struct RoutePattern: Hashable, Sendable, CustomStringConvertible {
  public let method: String
  /// As it is written in the policy.
  public let description: String
  private let segments: [[UInt8]]
  private let takesRest: Bool
  private let takesQuery: Bool

  /// Nil for what could match no request, or more than somebody meant: a method that is not in capital letters, CONNECT and
  /// TRACE, a path that no request can have, `**` elsewhere than at the end.
  public init?(_ text: String) {
    let parts = text.split(separator: " ", omittingEmptySubsequences: false)
    guard parts.count == 2, !parts[0].isEmpty, parts[0].utf8.allSatisfy({ (0x41...0x5a).contains($0) }),
      !["CONNECT", "TRACE"].contains(parts[0])
    else { return nil }
    takesQuery = parts[1].hasSuffix("?*")
    let path = takesQuery ? String(parts[1].dropLast(2)) : String(parts[1])
    guard RequestTarget.isPath(path) else { return nil }
    var segments = Self.segments(of: path)
    takesRest = segments.last.map { $0.elementsEqual("**".utf8) } ?? false
    if takesRest { segments.removeLast() }
    guard !segments.contains(where: { $0.hasTwoStars }) else { return nil }
    self.segments = segments
    method = String(parts[0])
    description = text
  }

  /// - Parameter target: a path with its query, as `RequestHead` gives it.
  public func matches(method: String, target: String) -> Bool {
    let path = target.prefix { $0 != "?" }
    guard method == self.method, takesQuery || path.utf8.count == target.utf8.count else { return false }
    let given = Self.segments(of: String(path))
    guard takesRest ? given.count > segments.count : given.count == segments.count else { return false }
    return zip(segments, given).allSatisfy(Self.matches)
  }

  private static func segments(of path: String) -> [[UInt8]] {
    path.utf8.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map(Array.init)
  }

  /// Steps through both once for each star, and never back further than the last one.
  private static func matches(_ pattern: [UInt8], _ text: [UInt8]) -> Bool {
    let star = UInt8(ascii: "*")
    var (inPattern, inText) = (0, 0)
    var last: (pattern: Int, text: Int)?
    while inText < text.count {
      if inPattern < pattern.count, pattern[inPattern] == star {
        // A star takes one character at least.
        last = (inPattern + 1, inText + 1)
        (inPattern, inText) = (inPattern + 1, inText + 1)
      } else if inPattern < pattern.count, pattern[inPattern] == text[inText] {
        (inPattern, inText) = (inPattern + 1, inText + 1)
      } else if let back = last {
        last = (back.pattern, back.text + 1)
        (inPattern, inText) = (back.pattern, back.text + 1)
      } else {
        return false
      }
    }
    return inPattern == pattern.count
  }
}

extension [UInt8] {
  fileprivate var hasTwoStars: Bool { zip(self, dropFirst()).contains { $0 == UInt8(ascii: "*") && $1 == $0 } }
}
