import Foundation
import JWTKit
import Jobs

@testable import Identity

/// Any claims as JWTKit wants them.
struct AnyPayload: JWTPayload {
  private let value: JSONValue

  init(_ claims: some Encodable) throws {
    value = try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(claims))
  }

  init(from decoder: any Decoder) throws { value = try JSONValue(from: decoder) }
  func encode(to encoder: any Encoder) throws { try value.encode(to: encoder) }
  func verify(using algorithm: some JWTAlgorithm) {}
}

/// A token in its parts, to be put together otherwise.
struct Parts {
  var header: JSONValue
  var payload: JSONValue
  var signature: String

  init(_ token: String) throws {
    let parts = token.split(separator: ".").map(String.init)
    header = try Self.json(parts[0])
    payload = try Self.json(parts[1])
    signature = parts[2]
  }

  private static func json(_ part: String) throws -> JSONValue {
    try JSONDecoder().decode(JSONValue.self, from: Data(Base64URL.decode(part) ?? []))
  }

  static func encode(_ value: JSONValue) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return Base64URL.encode(try encoder.encode(value))
  }

  var signed: String { get throws { try Self.encode(header) + "." + Self.encode(payload) } }
  var token: String { get throws { try signed + "." + signature } }
}

extension JSONValue {
  /// This object with a member set, or taken away.
  func with(_ name: String, _ value: JSONValue?) -> JSONValue {
    var members = object ?? [:]
    members[name] = value
    return .object(members)
  }
}
