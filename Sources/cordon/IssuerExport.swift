import ArgumentParser
import Foundation
import Identity

struct IssuerExport: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export", abstract: "Write the issuer's metadata and key set as files.",
    discussion: """
      Writes .well-known/openid-configuration and .well-known/jwks.json beneath --out, to be served as application/json under the
      issuer's URL, by a cache for no longer than the grace of the next key.
      """)

  @OptionGroup var options: IssuerKeyOptions
  @OptionGroup var name: IssuerNameOptions
  @Option(help: "Directory that is served as the issuer's URL.")
  var out: String
  @Flag(help: "Name the introspection endpoint as well: `cordon issuer serve` answers under the same URL.")
  var introspection = false

  func run() async throws {
    let documents = try PublishedDocuments(
      url: try name.url(), ring: try options.directory.ring(), at: .now, hasIntrospection: introspection)
    let directory = Installation.absolute(out)
    try documents.write(to: directory)
    Terminal.line("\(directory)/\(PublishedDocuments.configurationPath)")
    Terminal.line("\(directory)/\(PublishedDocuments.keySetPath)")
  }
}
