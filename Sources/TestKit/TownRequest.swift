import Foundation

/// A request as a host of the town received it.
public struct TownRequest: Sendable, Decodable {
  public let method: String
  /// With its query.
  public let path: String
  /// By name in lower case; a header that came several times is joined by ", ".
  public let headers: [String: String]
  /// Before any decoding but that of HTTP itself. Empty at the index, which does not record bodies.
  public let body: Data

  public var authorization: String? { headers["authorization"] }
}

extension Town {
  /// What a service recorded, one JSON object a line, in the order it came in.
  static func record<Line: Decodable>(_ file: URL, of type: Line.Type = Line.self) throws -> [Line] {
    // A line that is still being written has no end.
    let text = try String(contentsOf: file, encoding: .utf8)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
    return try lines.map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
  }

  /// Starts one of the hosts of `TownServices` that speak HTTPS. Its record is returned.
  func serveHTTPS(
    _ script: String, _ name: String, _ house: Int, port: UInt16, _ arguments: [String] = [],
    interpreter: String = "/usr/bin/python3"
  ) async throws -> URL {
    let names = try await dns()
    let (certificate, key) = try await certificates.issue(name)
    let record = directory.appending(path: "\(script).record")
    let words = [namespace.address(house), String(port), certificate, key, record.path] + arguments
    try await serve(script, Self.script(script, words, interpreter: interpreter)) { namespace.accepts(house, port) }
    try names.set(name, to: [.addresses([namespace.address(house)])])
    return record
  }
}
