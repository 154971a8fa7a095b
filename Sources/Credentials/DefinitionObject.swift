import Jobs

/// An object of the configuration, read strictly: every member that is there is asked for, and has the type asked for.
struct DefinitionObject {
  /// Such as `credentials.index.source`.
  let path: String
  private let members: [String: JSONValue]

  /// - Parameter known: the names of all members it may have.
  init(_ value: JSONValue, at path: String, known: Set<String>) throws(CredentialError) {
    try self.init(value, at: path)
    for name in members.keys.sorted() where !known.contains(name) {
      throw problem(name, "is not known here; there are \(known.sorted().joined(separator: ", "))")
    }
  }

  /// An object whose members have names of somebody's choice.
  init(_ value: JSONValue, at path: String) throws(CredentialError) {
    guard let members = value.object else { throw CredentialError(.definition, "\(path): write an object") }
    self.path = path
    self.members = members
  }

  var names: [String] { members.keys.sorted() }

  func problem(_ name: String, _ reason: String) -> CredentialError {
    CredentialError(.definition, "\(path).\(name): \(reason)")
  }

  /// The member as it stands; nil where there is none. A `null` is there.
  func value(_ name: String) -> JSONValue? { members[name] }

  func required(_ name: String) throws(CredentialError) -> JSONValue {
    guard let value = members[name] else { throw problem(name, "is missing") }
    return value
  }

  /// A text that is not empty and has no control characters, which no path, name or address here has.
  func text(_ name: String) throws(CredentialError) -> String { try Self.text(try required(name), "\(path).\(name)") }

  func optionalText(_ name: String) throws(CredentialError) -> String? {
    guard members[name] != nil else { return nil }
    return try text(name)
  }

  func flag(_ name: String) throws(CredentialError) -> Bool {
    guard let value = members[name] else { return false }
    guard case .bool(let flag) = value else { throw problem(name, "write true or false") }
    return flag
  }

  func texts(_ name: String) throws(CredentialError) -> [String] {
    guard let values = try required(name).array else { throw problem(name, "write a list of names") }
    var texts: [String] = []
    for (index, value) in values.enumerated() {
      let text = try Self.text(value, "\(path).\(name)[\(index)]")
      guard !texts.contains(text) else {
        throw CredentialError(.definition, "\(path).\(name)[\(index)]: '\(text)' is there twice")
      }
      texts.append(text)
    }
    return texts
  }

  /// The one member it has.
  func single(_ what: String) throws(CredentialError) -> String {
    guard let name = names.first, names.count == 1 else {
      let found = names.isEmpty ? "none" : names.joined(separator: " and ")
      throw CredentialError(.definition, "\(path): name exactly one \(what); there is \(found)")
    }
    return name
  }

  private static func text(_ value: JSONValue, _ path: String) throws(CredentialError) -> String {
    guard let text = value.string, !text.isEmpty else { throw CredentialError(.definition, "\(path): write a text") }
    guard text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7f }) else {
      throw CredentialError(.definition, "\(path): holds a control character")
    }
    return text
  }
}
