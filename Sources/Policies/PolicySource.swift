import FoundationEssentials
import Jobs
import Yams

// A policy is written by people, in YAML or in JSON, and judged as JSON. What the two formats see differently in one text
// would be a hole: YAML turns `no` into false and `1_0` into 10 in one reader and leaves them texts in another, copies by
// aliases, merges by `<<` and has types of its own. None of that is taken. A value is what JSON's grammar says of it, or a
// text; a text that some reader of YAML would take for something else has to be put in quotes.

/// A document as it was written: its value, and on which line each member stands.
public struct PolicySource: Sendable {
  public let text: String
  public let value: JSONValue
  private let lines: [String: Int]

  /// The database takes no longer document (`cordon.parse_policy`).
  public static let mostBytes = 65_536
  /// Deeper than any policy; it keeps what reads the document recursively from the end of its stack.
  static let mostLevels = 32

  /// - Parameter text: YAML, or JSON, which is read as the YAML that it nearly is.
  /// - Throws: `PolicyProblem` for what is neither, stands twice, is nested too deep or could be read in two ways.
  public init(_ text: String) throws(PolicyProblem) {
    self.text = text
    guard text.utf8.count <= Self.mostBytes else {
      throw PolicyProblem("policy", line: nil, "\(text.utf8.count) bytes; at most \(Self.mostBytes) are allowed")
    }
    var reading = Reading()
    let parser = try Self.parser(text)
    // A node's anchor is known as long as its parser is.
    value = try withExtendedLifetime(parser) { () throws(PolicyProblem) in
      try reading.value(of: try Self.root(of: parser), at: "", level: 1)
    }
    lines = reading.lines
  }

  /// The line on which a member begins, or the nearest thing around it that is there; from 1.
  public func line(of path: String) -> Int? {
    var place: String? = path == "policy" ? "" : path
    while let known = place {
      if let line = lines[known] { return line }
      place = MemberPath.parent(of: known)
    }
    return nil
  }

  /// The line that decided a member of what came of this document and others. Which grants there are may be decided by the
  /// credentials that a document leaves.
  public func line(deciding member: String) -> Int? {
    let isByCredentials = member == "grants" && lines["grants"] == nil && lines["credentials"] != nil
    return line(of: isByCredentials ? "credentials" : member)
  }

  private static func parser(_ text: String) throws(PolicyProblem) -> Parser {
    // JSON may be indented by tabs, YAML may not; in JSON a tab stands nowhere else.
    let isJSON = text.first { !$0.isWhitespace } == "{"
    do {
      return try Parser(yaml: isJSON ? text.replacing("\t", with: " ") : text, resolver: .basic)
    } catch {
      throw PolicyProblem("policy", line: nil, "is neither YAML nor JSON: \(error)")
    }
  }

  private static func root(of parser: Parser) throws(PolicyProblem) -> Node {
    do {
      guard let root = try parser.singleRoot() else { throw PolicyProblem("policy", line: nil, "is empty") }
      return root
    } catch let problem as PolicyProblem {
      throw problem
    } catch YamlError.duplicatedKeysInMapping(let duplicates, let context) {
      throw PolicyProblem(duplicates.min() ?? "policy", line: context.mark.line, "is there twice")
    } catch YamlError.scanner(_, let what, let mark, _), YamlError.parser(_, let what, let mark, _),
      YamlError.composer(_, let what, let mark, _)
    {
      throw PolicyProblem("policy", line: mark.line, "is neither YAML nor JSON: \(what)")
    } catch {
      throw PolicyProblem("policy", line: nil, "is neither YAML nor JSON: \(error)")
    }
  }
}

private struct Reading {
  var lines: [String: Int] = [:]

  mutating func value(of node: Node, at path: String, level: Int) throws(PolicyProblem) -> JSONValue {
    let line = node.mark?.line
    let named = path.isEmpty ? "policy" : path
    if lines[path] == nil, let line { lines[path] = line }
    guard level <= PolicySource.mostLevels else {
      throw PolicyProblem(named, line: line, "is nested deeper than \(PolicySource.mostLevels) levels")
    }
    guard node.anchor == nil else {
      throw PolicyProblem(named, line: line, "has an anchor; write what is meant where it is meant")
    }
    switch node {
    case .scalar(let scalar):
      // The parser gives what stands in quotes the tag of a text.
      if scalar.style == .plain || scalar.tag.description != "tag:yaml.org,2002:str" {
        try refuseTag(scalar.tag, named, line)
      }
      return try Self.value(of: scalar, named, line)
    case .sequence(let sequence):
      try refuseTag(sequence.tag, named, line)
      var values: [JSONValue] = []
      for (index, entry) in sequence.enumerated() {
        values.append(try value(of: entry, at: MemberPath.entry(index, of: path), level: level + 1))
      }
      return .array(values)
    case .mapping(let mapping):
      try refuseTag(mapping.tag, named, line)
      var members: [String: JSONValue] = [:]
      for (key, entry) in mapping {
        guard case .scalar(let name) = key, name.anchor == nil, name.string != "<<" else {
          throw PolicyProblem(named, line: key.mark?.line, "has a member whose name is no plain text")
        }
        let member = MemberPath.member(name.string, of: path)
        lines[member] = key.mark?.line
        // Two spellings of one name, which are different nodes to the parser.
        guard members[name.string] == nil else {
          throw PolicyProblem(member, line: key.mark?.line, "is there twice")
        }
        members[name.string] = try value(of: entry, at: member, level: level + 1)
      }
      return .object(members)
    case .alias:
      throw PolicyProblem(named, line: line, "is an alias; write what is meant where it is meant")
    }
  }

  private func refuseTag(_ tag: Tag, _ path: String, _ line: Int?) throws(PolicyProblem) {
    guard tag.description.isEmpty else {
      throw PolicyProblem(path, line: line, "has the tag \(tag); a policy's values are JSON's")
    }
  }

  private static func value(of scalar: Node.Scalar, _ path: String, _ line: Int?) throws(PolicyProblem) -> JSONValue {
    let text = scalar.string
    guard !text.unicodeScalars.contains("\0") else { throw PolicyProblem(path, line: line, "holds \\u0000") }
    guard scalar.style == .plain else { return .string(text) }
    switch text {
    case "null": return .null
    case "true": return .bool(true)
    case "false": return .bool(false)
    default: break
    }
    if text.wholeMatch(of: /-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/) != nil {
      guard let number = JSONValue.number(spelled: text) else {
        throw PolicyProblem(path, line: line, "'\(text)' is a number that no 64-bit float can hold")
      }
      return number
    }
    guard !isAmbiguous(text) else {
      throw PolicyProblem(
        path, line: line, "'\(text)' is read in different ways; write it as JSON does, a text in quotes")
    }
    return .string(text)
  }

  /// What YAML 1.1 or 1.2 would take for null, a truth value, a number or a time, and JSON's grammar does not.
  private static func isAmbiguous(_ text: String) -> Bool {
    let words: Set = [
      "", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", ".inf", "-.inf", "+.inf", ".nan",
    ]
    if words.contains(text.lowercased()) { return true }
    return [
      // Signed, with underscores, with leading zeros, in other bases.
      /[-+]?[0-9_]+/, /[-+]?0[bB][01_]+/, /[-+]?0[oO][0-7_]+/, /[-+]?0[xX][0-9a-fA-F_]+/,
      // Without a digit before the point or behind it.
      /[-+]?[0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?/, /[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+/,
    ].contains { (shape: Regex<Substring>) in text.wholeMatch(of: shape) != nil }
  }
}
