import Destinations
import Jobs

/// How the grants of one document stand to those of another.
struct GrantDifference {
  /// The member `grants` of each; nil where there is none.
  let before: JSONValue?
  let after: JSONValue?
  /// Both are documents that are in force for everybody, in which no grants are none. In one that narrows they leave all.
  let isWhole: Bool

  /// - Parameter parts: the path of a member in which they differ, after `grants`.
  func direction(_ parts: ArraySlice<String>) -> PolicyDifference.Direction {
    if !isWhole, before == nil || after == nil { return before == nil ? .narrower : .wider }
    guard let name = parts.first else { return .other }
    // To be named is to be granted, or left.
    guard let old = before?[name], let new = after?[name] else { return before?[name] == nil ? .wider : .narrower }
    let members = parts.dropFirst()
    switch members.first {
    case "allow"?: return .between(words(old["allow"]), words(new["allow"]))
    case "allow_private"?: return .between(words(old["allow_private"]), words(new["allow_private"]))
    case "most"?:
      guard let amount = members.dropFirst().first else { return .other }
      return .between(self.amount(amount, of: old), self.amount(amount, of: new))
    // To lead elsewhere is neither more nor less.
    default: return .other
    }
  }

  private func words(_ value: JSONValue?) -> Set<String>? {
    guard let value else { return isWhole ? [] : nil }
    return Set(value.array?.compactMap(\.string) ?? [])
  }

  private func amount(_ name: String, of grant: JSONValue) -> Int64 {
    if let value = grant["most"]?[name] {
      return value.integer ?? value.string.flatMap(ByteCount.init)?.bytes ?? 0
    }
    guard isWhole else { return .max }
    let usual = Grant.Budget.usual
    return switch name {
    case "sent": usual.sentBytes
    case "received": usual.receivedBytes
    case "requests": usual.requests
    default: usual.connections
    }
  }
}

extension PolicyDifference.Direction {
  /// - Parameters: nil is all there are.
  static func between(_ old: Set<String>?, _ new: Set<String>?) -> Self {
    guard let old, let new else { return old == new ? .other : old == nil ? .narrower : .wider }
    return new == old ? .other : new.isSubset(of: old) ? .narrower : old.isSubset(of: new) ? .wider : .other
  }

  static func between(_ old: Int64, _ new: Int64) -> Self { new < old ? .narrower : new > old ? .wider : .other }
}
