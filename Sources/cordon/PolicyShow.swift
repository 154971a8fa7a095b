import ArgumentParser
import Foundation
import Jobs
import Store

struct PolicyShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Print the policy in force, or another document.",
    discussion: """
      The document goes to stdout, ready for `cordon policy set`; its name, since when and by whom to stderr. With a
      tenant, a queue or both, prints what they may do: what is in force and what is bound, together.
      """)

  @OptionGroup var database: DatabaseOptions
  @OptionGroup var scope: PolicyScope
  @Option(help: "The document of this name.")
  var digest: Digest?
  @Flag(help: "As it was written, if that is known; only with --digest.")
  var source = false
  @Flag(help: "Print {\"digest\": …, \"since\": …, \"set_by\": …, \"document\": …}.")
  var json = false

  func validate() throws {
    guard digest == nil || scope.isEverybody else { throw ValidationError("--digest names one document already") }
    guard !source || digest != nil else { throw ValidationError("--source needs --digest") }
  }

  func run() async throws {
    try await database.withStore { store in
      if let digest {
        try show(digest, try await store.policyDocument(digest))
      } else if scope.isEverybody {
        try show(try await store.policyInForce())
      } else {
        let explained = try parseRecord(try await store.explainPolicy(tenant: scope.tenant, queue: scope.queue))
        guard let digest = explained["policy"]?.string.flatMap({ Digest($0) }) else {
          throw Failure(.environment, "policy: the database did not name one")
        }
        try show(digest, try await store.policyDocument(digest))
      }
    }
  }

  private func show(_ policy: Store.PolicyInForce) throws {
    let since = policy.since.formatted(.iso8601)
    try print(
      policy.digest, policy.document, more: ["since": .string(since), "set_by": .string(policy.setBy)],
      remark: "in force since \(since), set by \(Terminal.escape(policy.setBy))")
  }

  private func show(_ digest: Digest, _ policy: Store.StoredPolicy) throws {
    guard source else {
      try print(
        digest, policy.document, more: ["narrows": .bool(policy.narrows)], remark: policy.narrows ? "narrows" : "whole")
      return
    }
    guard let text = policy.source else { throw Failure(.usage, "--source: nobody said how \(digest) was written") }
    Terminal.jobBytes(Array(text.utf8), to: STDOUT_FILENO)
  }

  private func print(_ digest: Digest, _ text: String, more: [String: JSONValue], remark: String) throws {
    let document = try parseRecord(text)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    if json {
      let members = more.merging(["digest": .string(digest.description), "document": document]) { first, _ in first }
      Terminal.line(String(decoding: try encoder.encode(JSONValue.object(members)), as: UTF8.self))
      return
    }
    encoder.outputFormatting.insert(.prettyPrinted)
    Terminal.errorLine("policy \(digest), \(remark)")
    Terminal.line(String(decoding: try encoder.encode(document), as: UTF8.self))
  }
}

extension Digest: ExpressibleByArgument {
  public init?(argument: String) { self.init(argument) }
}
