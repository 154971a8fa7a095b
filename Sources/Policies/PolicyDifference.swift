import Jobs

/// How a member of one document stands to the same member of another.
public struct PolicyDifference: Equatable, Sendable {
  public enum Direction: String, Sendable {
    /// The second allows less.
    case narrower
    /// The second allows more.
    case wider
    /// Neither is contained in the other, or the member is no permission.
    case other
  }

  public let path: String
  /// Nil where the document does not have the member.
  public let before: JSONValue?
  public let after: JSONValue?
  public let direction: Direction

  /// The members in which two documents differ, by path.
  ///
  /// - Parameters:
  ///   - isWhole: both are documents that are in force for everybody, in which what is absent is none. In one that
  ///     narrows another, what is absent narrows nothing.
  public static func between(_ before: JSONValue, _ after: JSONValue, isWhole: Bool) -> [PolicyDifference] {
    let (old, new) = (members(of: before), members(of: after))
    return Set(old.keys).union(new.keys).sorted().compactMap { path in
      guard old[path] != new[path] else { return nil }
      let parts = path.split(separator: ".").map(String.init)
      let direction =
        parts.first == "grants"
        ? GrantDifference(before: before["grants"], after: after["grants"], isWhole: isWhole).direction(
          parts.dropFirst())
        : direction(parts, old[path], new[path], isWhole: isWhole)
      return PolicyDifference(path: path, before: old[path], after: new[path], direction: direction)
    }
  }

  /// The members that one can decide by: those of objects one by one, lists as wholes.
  public static func members(of document: JSONValue) -> [String: JSONValue] {
    var found: [String: JSONValue] = [:]
    func visit(_ value: JSONValue, _ path: String) {
      guard let members = value.object, !members.isEmpty else {
        if !path.isEmpty { found[path] = value }
        return
      }
      for (name, member) in members { visit(member, MemberPath.member(name, of: path)) }
    }
    visit(document, "")
    return found
  }

  private static func direction(
    _ parts: [String], _ before: JSONValue?, _ after: JSONValue?, isWhole: Bool
  ) -> Direction {
    switch parts.first {
    case "ceilings":
      guard let limit = parts.last.flatMap(PolicyLimit.init) else { return .other }
      // An absent ceiling, in a document that narrows, is no bound.
      return .between(before.flatMap { limit.amount($0) } ?? .max, after.flatMap { limit.amount($0) } ?? .max)
    case "retention":
      // To keep longer is no permission: it takes one away, to drop.
      return .between(
        -(before.flatMap(PolicyRetention.milliseconds) ?? 0), -(after.flatMap(PolicyRetention.milliseconds) ?? 0))
    case "filesystem" where parts.last == "tmp":
      let (old, new) = (before == .string("noexec"), after == .string("noexec"))
      return new == old ? .other : new ? .narrower : .wider
    case "filesystem" where parts.count == 1: return .other
    case "runtimes", "waivers", "audiences", "credentials", "filesystem":
      // Of credentials and of kinds of inputs, none said is all there are, in a whole document too.
      let noneIsNone = isWhole && parts.first != "credentials" && parts.first != "filesystem"
      return .between(words(before, noneIsNone), words(after, noneIsNone))
    default:
      return .other
    }
  }

  private static func words(_ value: JSONValue?, _ noneIsNone: Bool) -> Set<String>? {
    guard let value else { return noneIsNone ? [] : nil }
    return Set(value.array?.compactMap(\.string) ?? [])
  }
}
