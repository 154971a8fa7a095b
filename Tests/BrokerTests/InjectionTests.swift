import Destinations
import Foundation
import Synchronization
import Testing

@testable import Broker

/// Credentials that are put into requests, over sockets on loopback and TLS outside.
@Suite struct InjectionTests {
  private struct Provider: CredentialProvider {
    let give: @Sendable () throws -> Injection?

    func injection(for grant: Grant, attempt: AttemptAddress) async throws -> Injection? { try give() }
  }

  @Test("CR-06: what is withdrawn while it is being had is not sent, and a provider that hangs holds up nobody")
  func withdrawnMeanwhile() async throws {
    struct Slow: CredentialProvider {
      let asked = Notes()

      func injection(for grant: Grant, attempt: AttemptAddress) async throws -> Injection? {
        asked.append("asked")
        try await Task.sleep(for: .seconds(60))
        return .bearer("canary-7f")
      }
    }
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let request = "GET /simple/x HTTP/1.1\r\nHost: @\r\n\r\n"
    let slow = Slow()
    var limits = SessionLimits()
    limits.credential = .milliseconds(100)
    let hanging = try await WebSetting(
      web.port, trust: authority.rootFile, more: ",\"credential\":\"index\"", limits: limits, credentials: slow)
    let first = try await hanging.answer(to: request.replacingOccurrences(of: "@", with: hanging.host))
    #expect(first.hasPrefix("HTTP/1.1 403 ") && slow.asked.all.count == 1)
    _ = await hanging.session.close()
    let session = Box()
    let withdrawn = try await WebSetting(
      web.port, trust: authority.rootFile, more: ",\"credential\":\"index\"",
      credentials: Withdrawing { session.value.withLock { $0 }?.stopInjecting(reason: "job revoked") })
    session.value.withLock { $0 = withdrawn.session }
    let second = try await withdrawn.answer(to: request.replacingOccurrences(of: "@", with: withdrawn.host))
    #expect(second.hasPrefix("HTTP/1.1 403 ") && second.contains("credentials are withheld: job revoked"))
    _ = await withdrawn.session.close()
    #expect(web.server.connections == 0)
  }

  private final class Box: Sendable {
    let value = Mutex<EgressSession?>(nil)
  }

  private struct Withdrawing: CredentialProvider {
    let meanwhile: @Sendable () -> Void

    func injection(for grant: Grant, attempt: AttemptAddress) async throws -> Injection? {
      meanwhile()
      return .bearer("canary-7f")
    }
  }

  @Test func theGrantsCredentialTakesThePlaceOfTheJobs() async throws {
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let setting = try await WebSetting(
      web.port, trust: authority.rootFile, more: ",\"credential\":\"index\"",
      credentials: Provider { .header(name: "X-Index-Key", value: "canary-7f") })
    let (status, _) = try await House.curl(
      "--resolve", setting.resolved, "-H", "X-Index-Key: mine", "\(setting.url)/simple/x")
    #expect(status == 0)
    _ = await setting.session.close()
    let seen = try #require(web.seen.all.first)
    #expect(seen.contains("X-Index-Key: canary-7f\r\n") && !seen.contains("mine"))
    #expect(!setting.lines.recorded.contains { $0.json.contains("canary-7f") })
  }

  @Test(
    "CR-06: a request whose credential cannot be had is never sent without it",
    arguments: ["fails", "nothing", "unusable", "withheld", "refused"])
  func withoutCredential(way: String) async throws {
    struct Secret: Error { let text = "canary-7f" }
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let setting = try await WebSetting(
      web.port, trust: authority.rootFile, more: ",\"credential\":\"index\"",
      credentials: Provider {
        switch way {
        case "fails": throw Secret()
        case "nothing": nil
        case "refused": throw CredentialRefusal("the policy's audiences do not name it")
        case "unusable": .bearer("a\r\nX: y")
        default: .bearer("canary-7f")
        }
      })
    if way == "withheld" { setting.session.stopInjecting(reason: "tenant revoked") }
    let answer = try await setting.answer(to: "GET /simple/x HTTP/1.1\r\nHost: \(setting.host)\r\n\r\n")
    #expect(answer.hasPrefix("HTTP/1.1 403 ") && answer.contains("credential") && !answer.contains("canary-7f"))
    _ = await setting.session.close()
    #expect(web.server.connections == 0 && setting.lines.recorded.map(\.decision) == [.denied])
    // That one is told, and nothing of what other providers throw.
    let isTold = setting.lines.recorded[0].rule.contains("is refused: the policy's audiences do not name it")
    #expect(isTold == (way == "refused"))
  }
}
