import Destinations
import Foundation
import Jobs
import NIOPosix
import Testing

@testable import Broker

@Suite struct GrantTests {
  @Test func aWholeGrantIsReadAsItIsWritten() throws {
    let grant = try House.grant(
      """
      {"host":"PyPI.internal","port":443,"mode":"http","allow":["GET /simple/*/","GET /packages/**"],
       "allow_private":["10.0.0.0/8"],"phase":"fetch","listen":8080,"credential":"index",
       "most":{"sent":"1MiB","received":"100MiB","requests":100,"connections":16}}
      """)
    #expect(grant.endpoint.description == "pypi.internal:443" && grant.mode == .http && grant.listenPort == 8080)
    #expect(grant.allow.map(\.description) == ["GET /simple/*/", "GET /packages/**"])
    #expect(grant.allowPrivate == [AddressBlock("10.0.0.0/8")] && grant.phase == .fetch && grant.credential == "index")
    #expect(
      grant.most
        == Grant.Budget(sentBytes: 1 << 20, receivedBytes: 100 << 20, requests: 100, connections: 16))
  }

  @Test func whatIsLeftOutIsTheUsual() throws {
    let grant = try House.grant(#"{"host":"::1","port":5432,"mode":"tcp"}"#)
    #expect(grant.listenPort == 5432 && grant.phase == .run && grant.most == .usual && grant.allowPrivate.isEmpty)
    #expect(grant.host == .address(try #require(IPAddress("::1"))))
    #expect(try House.grant(#"{"host":"a.b","port":443,"mode":"http","allow":[]}"#).listenPort == 80)
  }

  @Test(
    "a member that is not as it must be is refused by its path",
    arguments: [
      (#"[]"#, "grants.packages: is no object"),
      (#"{"port":1,"mode":"tcp"}"#, "grants.packages.host: is missing"),
      (#"{"host":"*.b","port":1,"mode":"tcp"}"#, "grants.packages.host: has a wildcard; name each host"),
      (#"{"host":"a.b.","port":1,"mode":"tcp"}"#, "grants.packages.host: has an empty label"),
      (#"{"host":"127.1","port":1,"mode":"tcp"}"#, "grants.packages.host: ends in a number"),
      (#"{"host":"10.0.0.1","port":1,"mode":"opaque"}"#, "grants.packages.host: is an address, and TLS names none"),
      (#"{"host":"::1","port":1,"mode":"inspect","allow":[]}"#, "grants.packages.host: is an address"),
      (#"{"host":"a.b","port":0,"mode":"tcp"}"#, "grants.packages.port: is no whole number"),
      (#"{"host":"a.b","port":"1","mode":"tcp"}"#, "grants.packages.port: is no whole number"),
      (#"{"host":"a.b","port":1,"mode":"udp"}"#, "grants.packages.mode: is none of tcp, opaque, http, inspect"),
      (#"{"host":"a.b","port":1,"mode":"http"}"#, "grants.packages.allow: is missing"),
      (#"{"host":"a.b","port":1,"mode":"tcp","allow":[]}"#, "grants.packages.allow: means nothing in mode tcp"),
      (#"{"host":"a.b","port":1,"mode":"http","allow":["GET"]}"#, "grants.packages.allow[0]: is no route"),
      (#"{"host":"a.b","port":1,"mode":"tcp","allow_private":["10.0.0.1/8"]}"#, "grants.packages.allow_private[0]: is"),
      (#"{"host":"a.b","port":1,"mode":"tcp","most":{"sent":0}}"#, "grants.packages.most.sent: is no size"),
      (#"{"host":"a.b","port":1,"mode":"tcp","most":{"bytes":1}}"#, "grants.packages.most.bytes: is unknown"),
      (#"{"host":"a.b","port":1,"mode":"opaque","credential":"x"}"#, "grants.packages.credential: cannot be put into"),
      (#"{"host":"a.b","port":1,"mode":"tcp","phase":"both"}"#, "grants.packages.phase: is none of fetch, run"),
      (#"{"host":"a.b","port":1,"mode":"tcp","listen":70000}"#, "grants.packages.listen: is no whole number"),
      (#"{"host":"a.b","port":1,"mode":"tcp","verify":false}"#, "grants.packages.verify: is unknown"),
    ])
  func faults(json: String, problem: String) {
    do {
      _ = try House.grant(json)
      Issue.record("it was taken")
    } catch {
      #expect("\(error)".hasPrefix(problem), "\(error)")
    }
  }

  @Test(arguments: [
    ("GET /simple/*", "GET", "/simple/x", true), ("GET /simple/*", "GET", "/simple/", false),
    ("GET /simple/*", "GET", "/simple/x/", false), ("GET /simple/*", "GET", "/simple/x/y", false),
    ("GET /simple/*", "POST", "/simple/x", false), ("GET /simple/*", "get", "/simple/x", false),
    ("GET /simple/*/", "GET", "/simple/x/", true), ("GET /simple/*", "GET", "/simple/x?q", false),
    ("GET /simple/*?*", "GET", "/simple/x?q=/../", true), ("GET /simple/*?*", "GET", "/simple/x", true),
    ("GET /p/**", "GET", "/p/a/b", true), ("GET /p/**", "GET", "/p/", true), ("GET /p/**", "GET", "/p", false),
    ("GET /p/**", "GET", "/pa/b", false), ("GET /", "GET", "/", true), ("GET /**", "GET", "/a", true),
    ("GET /a-*.whl", "GET", "/a-1.whl", true), ("GET /a-*.whl", "GET", "/a-.whl", false),
    ("GET /*a*b", "GET", "/xaxaxb", true), ("GET /*a*b", "GET", "/xab", false), ("GET /*", "GET", "/%61", true),
    ("GET /a", "GET", "/%61", false),
  ])
  func routes(pattern: String, method: String, target: String, isMatch: Bool) throws {
    #expect(try #require(RoutePattern(pattern)).matches(method: method, target: target) == isMatch)
  }

  @Test(arguments: [
    "", "GET", "GET  /a", "get /a", "* /a", "CONNECT /a", "TRACE /a", "GET a", "GET /**/a", "GET /a**", "GET /../a",
    "GET //a", "GET /%2e", "GET /a?b", "GET /a#b", "GET /a b", "GET https://a/b",
  ])
  func noRoutes(text: String) {
    #expect(RoutePattern(text) == nil)
  }
}

@Suite struct DiallingTests {
  @Test(
    "a metadata address is dialled only where exactly it is listed",
    arguments: [("169.254.0.0/16", false), ("0.0.0.0/0", false), ("169.254.169.254/32", true)])
  func metadata(block: String, isDialled: Bool) throws {
    let grant = try House.grant(#"{"host":"a.b","port":80,"mode":"tcp","allow_private":["\#(block)"]}"#)
    let dialling = Dialling([try #require(IPAddress("169.254.169.254"))], for: grant, own: [])
    #expect(dialling.candidates.isEmpty != isDialled)
  }

  @Test func whatIsPrivateAmongWhatIsPublicIsLeftOut() throws {
    let grant = try House.grant(#"{"host":"a.b","port":80,"mode":"tcp"}"#)
    let addresses = ["1.1.1.1", "10.0.0.1", "2606:4700::1", "64:ff9b::a00:1", "1.1.1.1", "8.8.8.8"].compactMap {
      IPAddress($0)
    }
    let dialling = Dialling(addresses, for: grant, own: Set([addresses[5]]))
    #expect(dialling.candidates == [addresses[0], addresses[2]])
    #expect(dialling.refused == ["10.0.0.1 is private", "64:ff9b::a00:1 is translated", "8.8.8.8 is this host's own"])
  }

  @Test func theHostsOwnResolverKnowsItsOwnNameAndNoOther() async throws {
    let resolver = SystemResolver(threads: 1)
    #expect(try await resolver.addresses(of: "localhost").contains(.v4(0x7f00_0001)))
    await #expect(throws: SystemResolver.Unresolved.self) { try await resolver.addresses(of: "nobody.invalid") }
  }

  @Test func whoNeverAnswersIsLeftBehind() async throws {
    struct Silent: NameResolver {
      func addresses(of name: String) async throws -> [IPAddress] {
        // Deaf to being cancelled, as getaddrinfo is; it gives up with the test's patience.
        let end = ContinuousClock.now + .seconds(2)
        while ContinuousClock.now < end { await Task.yield() }
        return []
      }
    }
    let grant = try House.grant(#"{"host":"a.b","port":80,"mode":"tcp"}"#)
    let broker = try House.broker(Silent())
    var limits = SessionLimits()
    limits.resolve = .milliseconds(50)
    let session = try await broker.open(
      House.attempt, grants: [], proxy: nil, limits: limits, credentials: NoCredentials()
    ) { _ in }
    do {
      _ = try await broker.dialling(grant, for: session, on: MultiThreadedEventLoopGroup.singleton.next())
      Issue.record("it was answered")
    } catch let denial as Denial {
      #expect(denial.rule == "grant \"packages\": a.b cannot be resolved: no answer in 0.05 seconds")
    }
  }
}
