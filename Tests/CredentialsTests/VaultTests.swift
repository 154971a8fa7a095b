import Foundation
import NIOHTTP1
import TestKit
import Testing

@testable import Credentials

/// The answers are those of Vault's "KV secrets engine - version 2 (API)" and "HTTP API" pages.
@Suite struct VaultTests {
  private static let token = "hvs.CAESIJ-test-token"
  private static let secret = "hunter2-hunter2"

  private struct Setting {
    let place: Place
    let server: VaultStandIn
    let source: VaultSource
  }

  private func setting(namespace: String? = nil, patience: Duration = .seconds(5)) async throws -> Setting {
    let place = try Place()
    let server = try await VaultStandIn()
    let address = try VaultAddress(
      address: server.address, mount: "secret", path: "apps/in dex".replacing(" ", with: "%"), field: "key",
      tokenFile: place.write(Self.token + "\n", to: "token"), namespace: namespace)
    return Setting(place: place, server: server, source: VaultSource(address, patience: patience))
  }

  private func version(_ number: Int, _ secret: String = secret, deleted: String = "", destroyed: Bool = false)
    -> String
  {
    """
    {"request_id":"r","lease_id":"","renewable":false,"lease_duration":0,
     "data":{"data":{"key":"\(secret)","other":"x"},
             "metadata":{"created_time":"2026-01-01T00:00:00.000000000Z","custom_metadata":null,
                         "deletion_time":"\(deleted)","destroyed":\(destroyed),"version":\(number)}},
     "wrap_info":null,"warnings":null,"auth":null}
    """
  }

  private func failure(_ setting: Setting) async -> CredentialError? {
    do {
      _ = try await setting.source.fetch(for: attempt())
      return nil
    } catch {
      return error
    }
  }

  @Test func aVersionIsReadAndNamed() async throws {
    let setting = try await setting(namespace: "team/a")
    setting.server.say(.init(.ok, version(7)))
    let secret = try await setting.source.fetch(for: attempt())
    #expect(try secret == Secret(Self.secret, version: "") && secret.version == "version 7")
    let head = try #require(setting.server.asked.first)
    #expect(head.method == .GET && head.uri == "/v1/secret/data/apps/in%25dex")
    #expect(head.headers["X-Vault-Token"] == [Self.token] && head.headers["X-Vault-Namespace"] == ["team/a"])
    #expect(head.headers["X-Vault-Request"] == ["true"])
    try await setting.server.close()
  }

  @Test("CR-20: a new version and a renewed token are used from the next time on")
  func rotation() async throws {
    let setting = try await setting()
    setting.server.say(.init(.ok, version(7)))
    _ = try await setting.source.fetch(for: attempt())
    try setting.place.write("hvs.another-token", to: "token")
    setting.server.say(.init(.ok, version(8, "hunter3-hunter3")))
    let secret = try await setting.source.fetch(for: attempt())
    #expect(try secret == Secret("hunter3-hunter3", version: "") && secret.version == "version 8")
    #expect(setting.server.asked.last?.headers["X-Vault-Token"] == ["hvs.another-token"])
    try await setting.server.close()
  }

  @Test func aVersionThatWillBeDeletedOnceIsUsedUntilThen() async throws {
    let setting = try await setting()
    setting.server.say(.init(.ok, version(4, deleted: "2999-01-01T00:00:00Z")))
    #expect(try await setting.source.fetch(for: attempt()).version == "version 4")
    try await setting.server.close()
  }

  @Test("CR-13: what Vault refuses is said without its words and without the token")
  func refusals() async throws {
    let setting = try await setting()
    let echo = "{\"errors\":[\"permission denied for \(Self.token), value \(Self.secret)\"]}"
    let nothing = #"{"data":{"other":"hunter2-hunter2"}}"#
    let cases: [(VaultStandIn.Answer, CredentialError.Kind, String)] = [
      (.init(.forbidden, echo), .refused, "refuses the token in"),
      (.init(.notFound, #"{"errors":[]}"#), .refused, "has nothing there"),
      (
        .init(.notFound, version(3, deleted: "2026-02-02T00:00:00Z")), .refused, "is deleted or destroyed"
      ),
      (.init(.ok, version(3, destroyed: true)), .refused, "version 3 is destroyed"),
      (.init(.serviceUnavailable, #"{"errors":["Vault is sealed"]}"#), .unavailable, "sealed"),
      (.init(.badRequest, echo), .refused, "malformed"), (.init(.tooManyRequests, echo), .unavailable, "busy"),
      (.init(.internalServerError, echo), .unavailable, "status 500"),
      (.init(.ok, echo), .unusable, "key-value engine of version 2"), (.init(.ok, nothing), .unusable, "version 2"),
      (.init(.ok, "not JSON"), .unusable, "version 2"),
      (.init(.ok, version(1).replacing("\"key\"", with: "\"kez\"")), .unusable, "no field 'key'"),
      (.init(.ok, version(1).replacing("\"hunter2-hunter2\"", with: "{\"a\":1}")), .unusable, "no text"),
      (.init(.ok, version(1, "tiny")), .unusable, "at least 8 bytes"),
    ]
    for (answer, kind, words) in cases {
      setting.server.say(answer)
      let error = try #require(await failure(setting), "\(answer)")
      #expect(error.kind == kind && error.reason.contains(words), "\(error)")
      #expect(error.reason.hasPrefix("vault secret/apps/"))
      for secret in [Self.token, Self.secret, "hvs."] { #expect(!error.reason.contains(secret), "\(error)") }
    }
    try await setting.server.close()
  }

  @Test("NW-18: a redirect is not followed, and the token goes nowhere else")
  func redirects() async throws {
    let setting = try await setting()
    let other = try await VaultStandIn()
    other.say(.init(.ok, version(1)))
    setting.server.say(.init(.temporaryRedirect, "", location: other.address + "/v1/secret/data/apps/index"))
    #expect(await failure(setting)?.reason.contains("redirects") == true)
    #expect(setting.server.asked.count == 1 && other.asked.isEmpty)
    try await setting.server.close()
    try await other.close()
  }

  @Test func aServerThatIsSlowTooTalkativeOrGoneEndsTheRequest() async throws {
    let setting = try await setting(patience: .milliseconds(300))
    // A head and half a body, and then silence.
    setting.server.say(.init(.ok, version(1), stopsAfter: 40))
    let started = ContinuousClock.now
    let slow = await failure(setting)
    #expect(
      slow?.kind == .unavailable && slow?.reason.contains("no whole answer") == true, "\(String(describing: slow))")
    #expect(ContinuousClock.now - started < Duration.seconds(3).patiently)
    let patient = VaultSource(setting.source.address)
    setting.server.say(.init(.ok, version(1, String(repeating: "x", count: VaultAnswer.mostBytes))))
    let large = await #expect(throws: CredentialError.self) { try await patient.fetch(for: attempt()) }
    #expect(large?.kind == .unusable && large?.reason.contains("more than") == true, "\(String(describing: large))")
    try await setting.server.close()
    let gone = await #expect(throws: CredentialError.self) { try await patient.fetch(for: attempt()) }
    #expect(gone?.kind == .unavailable && gone?.reason.contains("no connection") == true, "\(String(describing: gone))")
  }

  @Test func aTokenThatOthersMayReadIsNotUsed() async throws {
    let setting = try await setting()
    setting.server.say(.init(.ok, version(1)))
    try setting.place.write(Self.token, to: "token", mode: 0o644)
    #expect(await failure(setting)?.reason.contains("chmod") == true)
    try setting.place.write("two\nlines-of-it", to: "token")
    #expect(await failure(setting)?.reason.contains("holds no token") == true)
    #expect(setting.server.asked.isEmpty)
    try await setting.server.close()
  }

  @Test func aVaultIsBelievedByItsOwnAuthorityOnly() async throws {
    let place = try Place()
    try await certificate(at: place.path, named: "vault", "IP:127.0.0.1")
    try await certificate(at: place.path, named: "stranger", "IP:127.0.0.1")
    try await certificate(at: place.path, named: "elsewhere", "DNS:other.example")
    func reason(server name: String, authority: String?) async throws -> String? {
      let server = try await VaultStandIn(tls: (place.path + "/\(name).pem", place.path + "/\(name).key"))
      server.say(.init(.ok, version(1)))
      let source = VaultSource(
        try VaultAddress(
          address: server.address, mount: "secret", path: "a", field: "key",
          tokenFile: place.write(Self.token, to: "token"), authorityFile: authority.map { place.path + "/\($0).pem" }))
      var reason: String?
      do { _ = try await source.fetch(for: attempt()) } catch { reason = error.reason }
      if reason != nil { #expect(server.asked.isEmpty) }
      try await server.close()
      return reason
    }
    #expect(try await reason(server: "vault", authority: "vault") == nil)
    #expect(try await reason(server: "vault", authority: "stranger")?.contains("TLS failed") == true)
    #expect(try await reason(server: "vault", authority: nil)?.contains("TLS failed") == true)
    #expect(try await reason(server: "elsewhere", authority: "elsewhere")?.contains("TLS failed") == true)
    try place.write("no certificate", to: "empty.pem")
    #expect(try await reason(server: "vault", authority: "empty")?.contains("holds no certificate") == true)
  }

  private func certificate(at directory: String, named name: String, _ subject: String) async throws {
    let child = try Child(
      "/usr/bin/openssl",
      [
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj",
        "/CN=\(name)", "-addext", "subjectAltName=\(subject)", "-keyout", "\(directory)/\(name).key", "-out",
        "\(directory)/\(name).pem",
      ], environment: [:], stdin: "/dev/null", stdout: "\(directory)/said", stderr: "\(directory)/said")
    try await eventually("openssl made \(name)") { !child.isRunning }
    #expect(
      child.terminationStatus == 0, "\((try? String(contentsOfFile: directory + "/said", encoding: .utf8)) ?? "")")
  }
}
