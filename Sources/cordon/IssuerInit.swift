import ArgumentParser
import Foundation
import Identity

struct IssuerInit: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "init", abstract: "Make keys: one that signs, and the next one.",
    discussion: "Called again with another algorithm it adds keys for that one.")

  @OptionGroup var options: IssuerKeyOptions
  @OptionGroup var grace: IssuerGraceOptions
  @Option(
    name: .customLong("algorithm"),
    help: "ES256 or RS256; repeat for both. RS256 is for relying parties that take nothing else. Default: ES256.")
  var algorithms: [SigningAlgorithm] = []

  func run() async throws {
    var wanted: [SigningAlgorithm] = []
    for algorithm in algorithms.isEmpty ? [.es256] : algorithms where !wanted.contains(algorithm) {
      wanted.append(algorithm)
    }
    try options.directory.initialise(wanted, at: .now, grace: grace.grace)
    try IssuerList.show(options.directory, json: false)
  }
}
