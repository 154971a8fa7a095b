import ArgumentParser
import Foundation
import Identity

struct IssuerRotate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rotate", abstract: "Let the next key sign, retire the current one, and make a new next one.",
    discussion: """
      The retired key is published until the last token it signed is over. Its private half is erased at once. Refused (exit code 2)
      while the next key has not been published for its grace.

      Export again afterwards where the key set lies on a file server, and once more when `list` says that the retired key is gone.
      """)

  @OptionGroup var options: IssuerKeyOptions
  @OptionGroup var grace: IssuerGraceOptions
  @Option(help: "Which key. Default: those of every algorithm there is.")
  var algorithm: SigningAlgorithm?
  @Flag(
    help: "The current key is in other hands: the next one signs at once, and what the current one signed is void.")
  var compromised = false

  func run() async throws {
    let directory = options.directory
    for algorithm in try algorithm.map({ [$0] }) ?? directory.ring().algorithms {
      try directory.rotate(algorithm, at: .now, grace: grace.grace, compromised: compromised)
    }
    try IssuerList.show(directory, json: false)
  }
}
