import ArgumentParser
import Credentials
import Foundation
import Identity
import Jobs
import Store
import Worker

struct Invite: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make a token that one worker enrols with, once.",
    discussion: """
      For operators. The token is shown this once and kept nowhere: the database has a verifier of it. Whoever has it may
      enrol a worker until it expires, so give it to the worker's host alone, best by --out and a copy.
      """)

  @OptionGroup var database: DatabaseOptions
  @Option(help: "The tenant whose jobs the worker is given. Default: every tenant's.")
  var tenant: String?
  @Option(name: .customLong("queue"), help: "A queue it may serve; repeat for more. Default: every queue.")
  var queues: [String] = []
  @Option(help: "How long the token is good, up to 7d.")
  var expires = "15m"
  @Option(help: "How long the worker's identity is good after each renewal, 5s to 7d; it renews at half of it.")
  var life = "1h"
  @Option(help: "A file to write the token to, for its owner alone to read; it must not be there yet.")
  var out: String?
  @Flag(help: "Print {\"role\": …, \"expires_at\": …, \"token\": …}, the last without --out.")
  var json = false

  func run() async throws {
    let expires = try Self.seconds(expires, "--expires")
    let life = try Self.seconds(life, "--life")
    if let out, GuardedFile.exists(Installation.absolute(out)) {
      throw Failure(.usage, "--out: '\(out)' is there already; remove it, or name another")
    }
    // First: a token that is kept nowhere would be good all the same.
    let file = try out.map { try GuardedFile.New(Installation.absolute($0)) }
    let made: (role: String, expiresAt: Date)
    let token: JoinToken
    do {
      (made, token) = try await make(expires: expires, life: life, into: file)
    } catch {
      file?.remove()
      throw error
    }
    let until = made.expiresAt.formatted(.iso8601)
    if json {
      var members: [String: JSONValue] = ["role": .string(made.role), "expires_at": .string(until)]
      if out == nil { members["token"] = .string(token.text) }
      Terminal.line(String(decoding: try JSONEncoder().encode(JSONValue.object(members)), as: UTF8.self))
      return
    }
    if out == nil { Terminal.line(token.text) }
    Terminal.errorLine(
      "cordon: \(made.role) is good until \(until), once, for \(tenant.map { "tenant \($0)" } ?? "every tenant") and "
        + (queues.isEmpty ? "every queue" : "queue \(queues.joined(separator: ", "))"))
  }

  private func make(
    expires: Double, life: Double, into file: GuardedFile.New?
  ) async throws -> ((role: String, expiresAt: Date), JoinToken) {
    let password = LoginPassword()
    return try await database.withStore { store in
      let made = try await store.createJoinToken(
        tenant: tenant, queues: queues.isEmpty ? nil : queues, expires: expires, life: life,
        verifier: password.verifier())
      do {
        guard let token = JoinToken(role: made.role, password: password) else {
          throw Failure(.environment, "the database made a token of the name \(made.role); update cordon")
        }
        try file?.write(Array((token.text + "\n").utf8))
        return (made, token)
      } catch {
        do { try await store.withdrawJoinToken(made.role) } catch let other {
          throw Failure(
            .environment,
            "\(error); and \(made.role) is good still: \(other) (fix: cordon workers withdraw \(made.role))")
        }
        throw error
      }
    }
  }

  private static func seconds(_ text: String, _ option: String) throws -> Double {
    guard let span = TimeSpan(text) else {
      throw Failure(.usage, "\(option): '\(text)' is no duration; write 90s, 15m or 1d")
    }
    return Double(span.milliseconds) / 1_000
  }
}

struct Invitations: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The tokens of the last day and those still good, and who enrolled with them; for operators and auditors."
  )

  @OptionGroup var database: DatabaseOptions
  @Flag(help: "One JSON array.")
  var json = false

  func run() async throws {
    try await database.withStore { store in
      try Table.show(
        try await store.joinTokens(), json: json,
        columns: [
          ("TOKEN", "role"), ("STATE", "state"), ("TENANT", "tenant"), ("QUEUES", "queues"), ("EXPIRES", "expires_at"),
          ("BY", "made_by"), ("WORKER", "worker"), ("ROLE", "worker_role"), ("IS", "worker_state"),
          ("GOOD UNTIL", "worker_expires_at"), ("RENEWED", "renewed_at"),
        ])
    }
  }
}

struct Withdraw: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Take back a token that nobody has used; for operators.")

  @OptionGroup var database: DatabaseOptions
  @Argument(help: "As `cordon workers invitations` shows it: cordon_join_…")
  var role: String

  func run() async throws {
    try await database.withStore { try await $0.withdrawJoinToken(role) }
  }
}
