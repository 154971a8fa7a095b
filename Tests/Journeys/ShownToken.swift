import Foundation
import Jobs
import TestKit

/// What a token says that a service was shown; its signature is others' to judge (`IdentityTests`).
struct ShownToken {
  let header: JSONValue
  let claims: JSONValue

  init(_ text: some StringProtocol) throws {
    let parts = text.split(separator: ".")
    guard parts.count == 3, let header = Self.decoded(parts[0]), let claims = Self.decoded(parts[1]) else {
      throw Problem("\(text) is no token")
    }
    self.header = try JSONDecoder().decode(JSONValue.self, from: header)
    self.claims = try JSONDecoder().decode(JSONValue.self, from: claims)
  }

  private static func decoded(_ part: some StringProtocol) -> Data? {
    let standard = part.replacingOccurrences(of: "-", with: "+").replacingOccurrences(of: "_", with: "/")
    return Data(base64Encoded: standard + String(repeating: "=", count: (4 - standard.count % 4) % 4))
  }
}
