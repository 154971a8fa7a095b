import ArgumentParser
import Foundation
import Identity

struct IssuerList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "list", abstract: "The keys that are published.")

  @OptionGroup var options: IssuerKeyOptions
  @Flag(help: "One JSON array.")
  var json = false

  func run() async throws {
    try Self.show(options.directory, json: json)
  }

  static func show(_ directory: KeyDirectory, json: Bool) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    encoder.dateEncodingStrategy = .iso8601
    let rows = try directory.ring().published(at: .now).map { String(decoding: try encoder.encode($0), as: UTF8.self) }
    try Table.show(
      rows, json: json,
      columns: [
        ("KID", "kid"), ("ALGORITHM", "algorithm"), ("STATE", "state"), ("CREATED", "created"),
        ("SIGNS FROM", "usable_at"),
        ("FORGOTTEN", "retire_at"),
      ])
  }
}
