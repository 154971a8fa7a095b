import Destinations
import Foundation
import Jobs
import Testing

@testable import Broker

/// What other grants would have made of decisions that are on record.
@Suite struct EgressTrialTests {
  private static func grants(_ texts: String...) throws -> [Grant] {
    try texts.enumerated().map { index, text in
      try Grant(name: index == 0 ? "index" : "g\(index)", json: try value(text))
    }
  }

  private static func index(_ allow: String, _ more: String = "") -> String {
    #"{"host":"index.internal","port":443,"mode":"http","allow":\#(allow)\#(more)}"#
  }

  private static func value(_ text: String) throws -> JSONValue {
    try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
  }

  private static func request(
    _ decision: String = "allowed", _ target: String = "GET /simple/a", grant: String? = "index",
    endpoint: String = "index.internal:443", rule: String = #"grant \"index\": GET /simple/*"#, more: String = ""
  ) throws -> RecordedDecision {
    let parts = target.split(separator: " ")
    let (method, path) = (parts.first.map { "\"\($0)\"" } ?? "null", parts.count > 1 ? "\"\(parts[1])\"" : "null")
    let line = try value(
      """
      {"decision":"\(decision)","at":"2026-11-20T08:00:00Z","rule":"\(rule)","method":\(method),"path":\(path),
       "grant":\(grant.map { "\"\($0)\"" } ?? "null"),"endpoint":"\(endpoint)"\(more)}
      """)
    return try #require(RecordedDecision(line))
  }

  /// What becomes of decisions, in short: `denied 1`.
  private func flips(_ ran: [Grant], _ trial: [Grant], _ decisions: RecordedDecision...) -> [String] {
    var judged = EgressTrial(ran: ran, trial: trial)
    for decision in decisions { judged.take(decision) }
    return judged.result().map { "\($0.change.rawValue) \($0.lines): \($0.rule)" }
  }

  private let ran: [Grant]

  init() throws { ran = try Self.grants(Self.index(#"["GET /simple/*"]"#)) }

  @Test("the same grants decide the same")
  func same() throws {
    #expect(
      try flips(
        ran, ran, Self.request(), Self.request("denied", "GET /other", rule: "x matches none"),
        Self.request("denied", "GET /simple/a", rule: "limit connections"),
        Self.request("denied", "", grant: nil, endpoint: "elsewhere:1", rule: "CONNECT: no grant names it")) == [])
  }

  @Test("what a grant with a credential allowed had perhaps a query, where its route takes one")
  func credentialed() throws {
    let queried = try Self.grants(Self.index(#"["GET /simple/*?*"]"#))
    func allowed(_ route: String) throws -> RecordedDecision {
      try Self.request(rule: #"grant \"index\": \#(route); credential index, 3"#)
    }
    try #expect(allowed("GET /simple/*?*").hasQuery == nil && allowed("GET /simple/*").hasQuery == false)
    let verdict = try flips(queried, ran, allowed("GET /simple/*?*"))
    #expect(verdict.count == 1 && verdict[0].hasPrefix("unknown 1: "), "\(verdict)")
    try #expect(flips(queried, ran, allowed("GET /simple/*")) == [])
  }

  @Test("a route, a grant or an endpoint that is not there any more denies what was allowed")
  func narrower() throws {
    let other = try Self.grants(Self.index(#"["GET /packages/**", "GET /simple/b"]"#))
    #expect(
      try flips(ran, other, Self.request(), Self.request(), Self.request("allowed", "GET /simple/b"))
        == [#"denied 2: grant "index" allows GET /packages/**, GET /simple/b"#])
    #expect(
      try flips(ran, [], Self.request())
        == ["denied 1: no grant that the job asks for leads to index.internal:443"])
    let moved = try Self.grants(
      #"{"host":"index.internal","port":8443,"mode":"http","allow":["GET /simple/*"],"listen":80}"#)
    #expect(try flips(ran, moved, Self.request()).first?.hasPrefix("denied 1: no grant") == true)
    let fetched = try Self.grants(Self.index(#"["GET /simple/*"]"#, #","phase":"fetch""#))
    #expect(try flips(ran, fetched, Self.request()) == [#"denied 1: grant "index" is of phase fetch"#])
  }

  @Test("what is denied for want of a route or of a grant is allowed by one, and what was denied otherwise is not")
  func wider() throws {
    let wide = try Self.grants(Self.index(#"["GET /**"]"#))
    let refused = #"grant \"index\" allows GET /simple/*; GET /other matches none"#
    #expect(
      try flips(
        ran, wide, Self.request("denied", "GET /other", rule: refused),
        Self.request("denied", "GET /other", rule: refused),
        // Its route was there already.
        Self.request("denied", "GET /simple/a", rule: "an Expect other than 100-continue"),
        // No route takes a query.
        Self.request("denied", "GET /other", rule: "GET /other with a query matches none"))
        == [#"allowed 2: grant "index": GET /**"#])
    #expect(
      try flips(
        [], try Self.grants(Self.index(#"["GET /simple/*?*"]"#)),
        Self.request("denied", grant: nil, endpoint: "index.internal:80", rule: "no grant of mode http names it"))
        == [#"allowed 1: grant "index": GET /simple/*?*"#])
    let tunnel = try Self.grants(#"{"host":"db.internal","port":5432,"mode":"tcp"}"#)
    let connect = try Self.request(
      "denied", "CONNECT", grant: nil, endpoint: "db.internal:5432", rule: "CONNECT db.internal:5432: no grant names it"
    )
    #expect(flips([], tunnel, connect) == [#"allowed 1: grant "index": leads there"#])
    let web = try Self.grants(#"{"host":"db.internal","port":5432,"mode":"http","allow":[]}"#)
    #expect(flips([], web, connect) == [])
  }

  @Test("where a query may have been, what depends on it cannot be told")
  func queries() throws {
    let loose = try Self.grants(Self.index(#"["GET /simple/*?*"]"#))
    let may = try Self.request(rule: #"grant \"index\": GET /simple/*?*"#)
    #expect(
      flips(loose, ran, may)
        == [
          #"unknown 1: grant "index" allows GET /simple/*, and whether there was a query is not on record"#
        ])
    #expect(try flips(ran, loose, Self.request()) == [])
    #expect(flips(loose, try Self.grants(Self.index("[]")), may) == [#"denied 1: grant "index" allows nothing"#])
    // A denial says that there was one.
    let refused = try Self.request("denied", rule: "GET /simple/a with a query matches none")
    #expect(flips(ran, loose, refused) == [#"allowed 1: grant "index": GET /simple/*?*"#])
    let long = try Self.request("allowed", "GET /simple/" + String(repeating: "a", count: 1_100))
    #expect(
      flips(ran, try Self.grants(Self.index(#"["GET /**"]"#)), long)
        == ["unknown 1: the whole path is not on record"])
  }

  @Test("another mode or another door is another client's")
  func modes() throws {
    let inspected = try Self.grants(
      #"{"host":"index.internal","port":443,"mode":"inspect","allow":["GET /**"],"listen":80}"#)
    #expect(try flips(ran, inspected, Self.request()) == [#"unknown 1: grant "index" is of mode inspect, not http"#])
    let elsewhere = try Self.grants(Self.index(#"["GET /simple/*"]"#, #","listen":8080"#))
    #expect(try flips(ran, elsewhere, Self.request()) == [#"unknown 1: grant "index" listens on port 8080, not 80"#])
  }

  @Test("addresses are judged as they are dialled: those that were, and not those of a name that was denied")
  func addresses() throws {
    let inside = try Self.grants(Self.index(#"["GET /simple/*"]"#, #","allow_private":["10.0.0.0/8"]"#))
    let dialled = try Self.request(more: #","address":"10.1.2.3""#)
    #expect(
      flips(inside, ran, dialled) == [
        #"denied 1: grant "index": no address of index.internal may be dialled: 10.1.2.3 is private, and allow_private lists no block around it"#
      ])
    // Another of its addresses is left.
    #expect(flips(inside, ran, try Self.request(more: #","address":"10.1.2.3,93.184.215.14""#)) == [])
    let denied = try Self.request(
      "denied", rule: #"grant \"index\": no address of index.internal may be dialled: 10.1.2.3 is private"#)
    #expect(flips(ran, inside, denied).first?.hasPrefix("unknown 1: ") == true)
    let wide = try Self.grants(Self.index(#"["GET /**"]"#))
    #expect(flips(ran, wide, denied) == [])
  }

  @Test("amounts are those of the whole attempt")
  func amounts() throws {
    func most(_ amounts: String) throws -> [Grant] {
      try Self.grants(Self.index(#"["GET /simple/*"]"#, #","most":\#(amounts)"#))
    }
    let closed = try Self.request("closed", more: #","sent":600,"received":2000"#)
    #expect(
      flips(
        ran, try most(#"{"requests":1,"sent":1000,"received":4000}"#), try Self.request(), closed, try Self.request(),
        closed, try Self.request())
        == [
          #"denied 1: grant "index": most.sent of 1000 is used up"#,
          #"denied 2: grant "index": most.requests of 1 is used up"#,
        ])
    // What would not be allowed at all uses nothing up.
    let none = try Self.grants(Self.index("[]", #","most":{"requests":1}"#))
    #expect(
      flips(ran, none, try Self.request(), try Self.request()) == [#"denied 2: grant "index" allows nothing"#])
    let used = try Self.request("denied", rule: #"grant \"index\": most.requests of 1 is used up"#)
    #expect(
      flips(try most(#"{"requests":1}"#), try most(#"{"requests":5}"#), used)
        == [#"allowed 1: grant "index": most.requests is 5"#])
    #expect(flips(try most(#"{"requests":1}"#), try most(#"{"requests":1,"sent":9}"#), used) == [])
    let tunnel = #"{"host":"db.internal","port":5432,"mode":"tcp""#
    let connection = try Self.request(
      "allowed", "", endpoint: "db.internal:5432", rule: #"grant \"index\": mode tcp"#)
    #expect(
      flips(
        try Self.grants(tunnel + "}"), try Self.grants(tunnel + #","most":{"connections":1}}"#), connection, connection)
        == [#"denied 1: grant "index": most.connections of 1 is used up"#])
  }

  @Test("what is alike is one, with its first and its last")
  func groups() throws {
    var judged = EgressTrial(ran: ran, trial: [])
    for at in ["2026-11-20T08:00:01Z", "2026-11-20T08:00:03Z", "2026-11-20T08:00:02Z"] {
      judged.take(
        try #require(
          RecordedDecision(
            try Self.value(
              """
              {"decision":"allowed","at":"\(at)","rule":"r","grant":"index","endpoint":"index.internal:443",
               "method":"GET","path":"/simple/\(at.suffix(2).prefix(1))"}
              """))))
    }
    let flip = try #require(judged.result().first)
    #expect(judged.result().count == 1 && flip.lines == 3 && flip.grant == "index")
    #expect(flip.first == "2026-11-20T08:00:01Z" && flip.last == "2026-11-20T08:00:03Z")
    #expect(flip.request == "GET /simple/3 index.internal:443")
    #expect(RecordedDecision(.object(["decision": .string("allowed")])) == nil)
  }
}
