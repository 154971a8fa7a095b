/// Why a document is no policy: one line that names the member, and where it stands in the text.
public struct PolicyProblem: Error, Equatable, CustomStringConvertible {
  /// The member at fault, such as `ceilings.memory` or `waivers[2]`; `policy` is the document as a whole.
  public let path: String
  /// Its line in the text, from 1; nil where the text as a whole is at fault.
  public let line: Int?
  /// What is wrong with it, and what to write instead.
  public let reason: String

  public init(_ path: String, line: Int?, _ reason: String) {
    self.path = path
    self.line = line
    self.reason = reason
  }

  public var description: String {
    let place = line.map { "line \($0): " } ?? ""
    return "\(place)\(path): \(reason)"
  }
}

/// The member of an object, or the entry of an array, that a finding or a decision is about.
enum MemberPath {
  static func member(_ name: String, of path: String) -> String { path.isEmpty ? name : "\(path).\(name)" }

  static func entry(_ index: Int, of path: String) -> String { "\(path)[\(index)]" }

  /// What contains `path`; nil for the document.
  static func parent(of path: String) -> String? {
    guard !path.isEmpty else { return nil }
    guard let end = path.lastIndex(where: { $0 == "." || $0 == "[" }) else { return "" }
    return String(path[..<end])
  }
}
