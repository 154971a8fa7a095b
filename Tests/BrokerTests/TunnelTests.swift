import Destinations
import Foundation
import Glibc
import Jobs
import NIOCore
import Testing

@testable import Broker

/// Modes tcp and opaque, over sockets on loopback.
@Suite struct TunnelTests {
  private struct Setting {
    let session: EgressSession
    let port: UInt16
    let lines = Lines()
    let resolver: CountingResolver

    init(
      _ server: Server?, port serverPort: UInt16 = 9, mode: String = "tcp",
      resolver: CountingResolver = CountingResolver("127.0.0.1"),
      more: String = "\"allow_private\":[\"127.0.0.0/8\"]", limits: SessionLimits = .init(),
      allowance: EgressAllowance? = nil
    ) async throws {
      self.resolver = resolver
      let door = try House.listener()
      let grant = try House.grant(
        """
        {"host":"packages.internal","port":\(server?.port ?? serverPort),"mode":"\(mode)","listen":\(door.port),\(more)}
        """)
      port = door.port
      session = try await House.broker(resolver).open(
        House.attempt, grants: [(grant, door.descriptor)], proxy: nil, limits: limits, allowance: allowance,
        credentials: NoCredentials(), ledger: lines.record)
    }
  }

  @Test func bytesGoBothWaysAndHalfAnEndIsPassedOn() async throws {
    let server = try await Server { wire in
      // Answers only when the client has said that nothing more comes.
      let all = try await wire.readAll()
      try await wire.write("got \(all)")
    }
    let setting = try await Setting(server)
    let client = try await House.connect(setting.port)
    try await client.write("hello")
    try await client.finish()
    #expect(try await client.readAll() == "got hello")
    try await House.until("the end is recorded") { setting.lines.recorded.count == 2 }
    let summary = await setting.session.close()
    let lines = setting.lines.recorded
    #expect(lines.map(\.decision) == [.allowed, .closed])
    #expect(lines[1].subject.sent == 5 && lines[1].subject.received == 9)
    #expect(lines[1].subject.address == "127.0.0.1" && lines[1].rule == "both sides ended")
    #expect(try LedgerSummary.verifying(lines.map(\.json), of: House.attempt, expected: summary) == summary)
  }

  @Test(
    "NW-08, NW-09: an address that is not global is not dialled, however many others there are",
    arguments: [["127.0.0.1"], ["10.0.0.1", "127.0.0.1"], ["169.254.169.254"], ["fe80::1", "::ffff:127.0.0.1"], []])
  func privateAddresses(addresses: [String]) async throws {
    let server = try await Server.echo()
    let setting = try await Setting(
      server, resolver: CountingResolver { _ in addresses }, more: "\"allow_private\":[]")
    let client = try await House.connect(setting.port)
    #expect((try? await client.readAll()) ?? "" == "")
    _ = await setting.session.close()
    #expect(setting.lines.denials.count == 1)
    #expect(setting.lines.denials[0].hasPrefix("grant \"packages\": no address of packages.internal may be dialled"))
    #expect(server.connections == 0)
  }

  @Test func aNameThatMovesIsResolvedAnewAndOnlyJudgedAddressesAreDialled() async throws {
    let server = try await Server.echo()
    // First an address that may be dialled, then the one that it rebinds to.
    let resolver = CountingResolver { $0 == 1 ? ["127.0.0.1"] : ["10.0.0.1"] }
    let setting = try await Setting(server, resolver: resolver)
    let client = try await House.connect(setting.port)
    try await client.write("x")
    #expect(try await client.read(atLeast: 1) == "x")
    #expect(resolver.count == 1)
    // Past the life of the first answer: until then it is what is judged and dialled.
    try await Task.sleep(for: .nanoseconds(RecentNames.life.nanoseconds) + .milliseconds(10))
    let second = try await House.connect(setting.port)
    #expect((try? await second.readAll()) ?? "" == "")
    try await House.until("the second is denied") { setting.lines.denials.count == 1 }
    #expect(setting.lines.denials[0].contains("10.0.0.1 is private"))
    #expect(server.connections == 1)
    _ = await setting.session.close()
  }

  @Test func aSlowReaderHoldsTheSenderAndNotTheBroker() async throws {
    let total = 48 << 20
    let server = try await Server { wire in
      let block = ByteBuffer(repeating: 7, count: 1 << 20)
      for _ in 0..<(total >> 20) { try await wire.write(block) }
      try await wire.finish()
    }
    let setting = try await Setting(server)
    let client = try await House.connect(setting.port)
    try await client.finish()
    var count = 0
    var heldHalfway = 0
    while let bytes = try await client.read() {
      count += bytes.readableBytes
      if count < total / 2 { heldHalfway = setting.session.mostHeld }
    }
    #expect(count == total)
    #expect(heldHalfway > 0 && heldHalfway <= 2 * Wire.mostRead)
    // At the end it is what the kernel's buffer holds, which all of the rest does not fit into.
    let buffers = try String(contentsOfFile: "/proc/sys/net/ipv4/tcp_rmem", encoding: .utf8).split(
      whereSeparator: \.isWhitespace)
    let largest = try #require(buffers.last.flatMap { Int($0) })
    #expect(setting.session.mostHeld <= largest + 2 * Wire.mostRead)
    _ = await setting.session.close()
  }

  @Test("NW-38: a cut ends a running tunnel within a second") func cut() async throws {
    let server = try await Server.echo()
    let setting = try await Setting(server)
    let client = try await House.connect(setting.port)
    try await client.write("x")
    #expect(try await client.read(atLeast: 1) == "x")
    let start = ContinuousClock.now
    setting.session.cut(reason: "policy revoked")
    #expect((try? await client.readAll()) ?? "" == "")
    #expect(ContinuousClock.now - start < .seconds(1))
    _ = await setting.session.close()
    #expect(setting.lines.denials == ["cut: policy revoked"])
    #expect(setting.lines.of(.closed).map(\.rule) == ["cut: policy revoked"])
    // The door is gone with it.
    await #expect(throws: (any Error).self) { try await House.connect(setting.port) }
  }

  @Test(
    "a budget that is used up ends the connection by its name",
    arguments: [("sent", "\"4B\""), ("received", "\"4B\"")])
  func bytes(limit: String, most: String) async throws {
    let server = try await Server.echo()
    let setting = try await Setting(
      server, more: "\"allow_private\":[\"127.0.0.0/8\"],\"most\":{\"\(limit)\":\(most)}")
    let client = try await House.connect(setting.port)
    try await client.write("12345")
    #expect((try? await client.readAll()) ?? "" == "")
    _ = await setting.session.close()
    #expect(setting.lines.denials == ["grant \"packages\": most.\(limit) of 4 is used up"])
    #expect(setting.lines.of(.closed).count == 1)
  }

  @Test("a tunnel that is open is cut where its principal has sent all of a day's egress, and none is opened any more")
  func allowance() async throws {
    let server = try await Server.echo()
    let allowance = EgressAllowance(of: "helper")
    allowance.join(House.attempt.token)
    allowance.answered(allowance.report(), left: 4)
    let setting = try await Setting(server, allowance: allowance)
    let client = try await House.connect(setting.port)
    try await client.write("1234")
    #expect(try await client.read(atLeast: 4) == "1234")
    try await client.write("5")
    #expect((try? await client.readAll()) ?? "" == "")
    let next = try await House.connect(setting.port)
    #expect((try? await next.readAll()) ?? "" == "")
    _ = await setting.session.close()
    let rule = #"principal "helper" has used its egress of the day"#
    #expect(setting.lines.denials == [rule, rule])
    #expect(setting.lines.of(.closed).map(\.rule) == [rule] && setting.lines.of(.closed)[0].subject.sent == 4)
    #expect(server.connections == 1)
    #expect(allowance.report().reports.map(\.amounts.sent) == [4])
  }

  @Test func connectionsAreCountedOverTheAttempt() async throws {
    let server = try await Server.echo()
    let setting = try await Setting(
      server, more: "\"allow_private\":[\"127.0.0.0/8\"],\"most\":{\"connections\":1}")
    for index in 0..<2 {
      let client = try await House.connect(setting.port)
      try? await client.write("x")
      try? await client.finish()
      #expect(((try? await client.readAll()) ?? "") == (index == 0 ? "x" : ""))
    }
    _ = await setting.session.close()
    #expect(setting.lines.denials == ["grant \"packages\": most.connections of 1 is used up"])
    #expect(server.connections == 1)
  }

  @Test("beyond the cap a connection is accepted and closed, ten thousand times, and the ledger stays bounded")
  func flood() async throws {
    let server = try await Server.echo()
    var limits = SessionLimits()
    limits.connections = 2
    limits.ledgerLines = 100
    let setting = try await Setting(server, limits: limits)
    var kept: [Wire] = []
    for _ in 0..<2 {
      let client = try await House.connect(setting.port)
      try await client.write("x")
      #expect(try await client.read(atLeast: 1) == "x")
      kept.append(client)
    }
    for _ in 0..<100 {
      await withTaskGroup { group in
        for _ in 0..<100 {
          group.addTask {
            guard let client = try? await House.connect(setting.port) else { return false }
            return ((try? await client.readAll()) ?? "").isEmpty
          }
        }
        for await isClosed in group where !isClosed { Issue.record("one more was served") }
      }
    }
    // Those that were there first are still served.
    try await kept[0].write("y")
    #expect(try await kept[0].read(atLeast: 1) == "y")
    let summary = await setting.session.close()
    let lines = setting.lines.recorded
    #expect(lines.count == 100 && summary.count == 100 && summary.unrecorded == 10_000 - 95)
    #expect(lines.last?.rule == Ledger.fullRule)
    #expect(lines.count { $0.decision == .closed } == 2)
    #expect(server.connections == 2)
  }

  @Test func aServerThatIsNotThereIsRecorded() async throws {
    // RFC 863's port: no test's listener is given it.
    let setting = try await Setting(nil, port: 9)
    let client = try await House.connect(setting.port)
    #expect((try? await client.readAll()) ?? "" == "")
    _ = await setting.session.close()
    #expect(setting.lines.of(.closed).map(\.rule).first?.contains("cannot be connected to") == true)
  }

  @Test func whoEndsDoesNotWaitForAServerThatDoesNotAnswer() async throws {
    // A queue of connections that is full, so that one more is neither taken nor refused.
    let full = try House.listener(backlog: 0)
    defer { _ = close(full.descriptor) }
    var waiting: [Int32] = []
    defer { for descriptor in waiting { _ = close(descriptor) } }
    for _ in 0..<4 { waiting.append(House.knock(full.port)) }
    let setting = try await Setting(nil, port: full.port)
    let client = try await House.connect(setting.port)
    try await House.until("it is allowed") { setting.lines.of(.allowed).count == 1 }
    let start = ContinuousClock.now
    _ = await setting.session.close()
    #expect(ContinuousClock.now - start < .seconds(1))
    #expect(setting.lines.of(.closed).map(\.rule) == ["the attempt has ended"])
    await client.close()
  }

  @Test func anIdleConnectionIsEnded() async throws {
    let server = try await Server.echo()
    var limits = SessionLimits()
    limits.idle = .milliseconds(100)
    let setting = try await Setting(server, limits: limits)
    let client = try await House.connect(setting.port)
    #expect((try? await client.readAll()) ?? "" == "")
    _ = await setting.session.close()
    // On a busy host it is over before it is allowed.
    #expect(setting.lines.recorded.last?.rule == "limit idle: 0.1 seconds without a byte")
  }

  // MARK: opaque

  @Test("NW-15: what is no ClientHello for the grant's host reaches nobody, and its name is not asked for")
  func otherHellos() async throws {
    let server = try await Server.echo()
    let setting = try await Setting(server, mode: "opaque")
    for (bytes, reason) in [
      (Array("GET / HTTP/1.1\r\n\r\n".utf8), "is no TLS handshake"),
      (ClientHelloBytes.hello(name: "attacker.test"), "names attacker.test, and the grant packages.internal"),
      (ClientHelloBytes.hello(name: nil), "names no server"),
    ] {
      let client = try await House.connect(setting.port)
      try await client.write(ByteBuffer(bytes: bytes))
      #expect((try? await client.readAll()) ?? "" == "")
      try await House.until("a denial with \(reason)") { setting.lines.denials.contains { $0.contains(reason) } }
    }
    #expect(setting.resolver.count == 0 && server.connections == 0)
    _ = await setting.session.close()
  }

  @Test func aHelloThatDoesNotComeIsNotWaitedFor() async throws {
    let server = try await Server.echo()
    var limits = SessionLimits()
    limits.head = .milliseconds(100)
    let setting = try await Setting(server, mode: "opaque", limits: limits)
    let client = try await House.connect(setting.port)
    try await client.write(ByteBuffer(bytes: [22, 3, 1]))
    #expect((try? await client.readAll()) ?? "" == "")
    _ = await setting.session.close()
    #expect(setting.lines.denials.first?.contains("limit head: no whole ClientHello") == true)
  }

  @Test func curlReachesTheServerThroughAnOpaqueTunnel() async throws {
    let authority = try TestAuthority()
    let web = try await WebServer(authority.chain())
    let setting = try await Setting(web.server, mode: "opaque")
    let (status, output) = try await House.curl(
      "--cacert", authority.rootFile, "--resolve", "packages.internal:\(setting.port):127.0.0.1",
      "https://packages.internal:\(setting.port)/simple/")
    #expect(status == 0 && output == "ok")
    _ = await setting.session.close()
    #expect(web.seen.all.first?.hasPrefix("GET /simple/ HTTP/1.1\r\n") == true)
    #expect(setting.lines.recorded.map(\.decision) == [.allowed, .closed])
  }
}

/// The least that is a ClientHello.
enum ClientHelloBytes {
  static func hello(name: String?) -> [UInt8] {
    func sized(_ bytes: [UInt8], _ width: Int) -> [UInt8] {
      (0..<width).reversed().map { UInt8(bytes.count >> (8 * $0) & 255) } + bytes
    }
    var extensions: [UInt8] = [0, 43] + sized([2, 3, 4], 2)
    if let name { extensions += [0, 0] + sized(sized([0] + sized(Array(name.utf8), 2), 2), 2) }
    let body = [3, 3] + [UInt8](repeating: 1, count: 32) + [0] + sized([19, 1], 2) + [1, 0] + sized(extensions, 2)
    return [22, 3, 1] + sized([1] + sized(body, 3), 2)
  }
}
