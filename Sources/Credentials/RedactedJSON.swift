import Jobs

extension Redactor {
  /// A result without secrets: in its texts, in the names of its members, and where a number is one.
  ///
  /// A secret that is cut into several texts is not found.
  public func redact(_ value: JSONValue) -> JSONValue {
    switch value {
    case .null, .bool: return value
    case .integer(let number): return redact(number: "\(number)") ?? value
    case .number(let number): return redact(number: "\(number)") ?? value
    case .decimal(let number): return redact(number: "\(number)") ?? value
    case .string(let text): return .string(redact(text))
    case .array(let values): return .array(values.map(redact))
    case .object(let members):
      var redacted: [String: JSONValue] = [:]
      // In an order, so that two names that become one are told apart the same way each time.
      for (name, member) in members.sorted(by: { $0.key < $1.key }) {
        let clean = redact(name)
        var free = clean
        var count = 1
        while redacted[free] != nil || (free != name && members[free] != nil) {
          count += 1
          free = "\(clean) (\(count))"
        }
        redacted[free] = redact(member)
      }
      return .object(redacted)
    }
  }

  /// Nil where there is nothing secret in it.
  private func redact(number text: String) -> JSONValue? {
    let clean = redact(text)
    return clean == text ? nil : .string(clean)
  }
}
