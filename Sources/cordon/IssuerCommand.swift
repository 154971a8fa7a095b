import ArgumentParser
import Foundation
import Identity

struct IssuerCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "issuer",
    abstract: "Keys and endpoints of the tokens that say who an attempt is.",
    discussion: """
      A relying party trusts the issuer's URL: it fetches the key set from there and grants rights to a subject, which is the same
      for every attempt of a queue: spiffe://TRUST-DOMAIN/tenant/TENANT/queue/QUEUE.

      Begin with `init`. Publish what `export` writes under the URL, on any file server, or let a front end with TLS pass it on to
      `serve`, which also answers whether the attempt of a token still runs. Call `rotate` from time to time: the next key has been
      published for its grace by then, so no relying party meets a key it does not know.
      """,
    subcommands: [IssuerInit.self, IssuerRotate.self, IssuerList.self, IssuerExport.self, IssuerServe.self])
}

/// Where the keys lie.
struct IssuerKeyOptions: ParsableArguments {
  @Option(help: "Directory with the issuer's keys, of mode 0700. Default: /var/lib/cordon/issuer as root.")
  var keys: String?

  var directory: KeyDirectory {
    KeyDirectory(path: Installation.absolute(keys ?? Installation.defaultData + "/issuer"))
  }
}

/// Who the issuer is.
struct IssuerNameOptions: ParsableArguments {
  @Option(help: "The issuer's https URL, as relying parties know it.")
  var issuer: String

  func url() throws -> IssuerURL { try IssuerURL(issuer) }
}

/// How long a next key is published before it signs.
struct IssuerGraceOptions: ParsableArguments {
  @Option(
    help: "Seconds that the next key is published before it may sign; no less than relying parties keep a key set.")
  var grace = 86_400
}

extension SigningAlgorithm: ExpressibleByArgument {}
