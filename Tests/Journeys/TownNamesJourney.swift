import Foundation
import Jobs
import TestKit
import Testing

extension TownJourneys {
  @Test("what is refused is never asked of a name server; what is granted is asked once for each kind of address")
  func queries() async throws {
    let place = try await TownHouse.shared.value
    let names = place.names
    for name in ["denied.test", "counted.test", "untouched.test"] {
      try names.set(name, to: [.addresses([place.logs.address])])
    }
    let before = try names.queries().count
    let nameServer = try #require(place.town.block.split(separator: "/").first).dropLast() + "53"
    let script = """
      curl -sS -m 5 https://denied.test/ 2>&1 | cut -c1-34
      curl -sS -m 5 -x $CORDON_PROXY https://denied.test/ 2>&1 | grep -o 'response 403'
      curl -sS -m 5 -x $CORDON_PROXY http://secret.denied.test/
      curl -sS -m 5 http://untouched.test/only -H 'Host: denied.test'
      curl -sS -m 5 http://untouched.test/only -d x
      python3 -I -c '
      import socket
      try:
          socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"direct", ("\(nameServer)", 53))
          print("sent")
      except OSError as error:
          print(error.strerror)'
      curl -ksS -o /dev/null -w '%{http_code}\\n' https://counted.test/counted
      """
    let (_, text, ledger) = try await place.run(script, grants: ["counted", "untouched"])
    #expect(
      text == """
        curl: (6) Could not resolve host: 
        response 403
        {"error":"cordon: denied: http://secret.denied.test:80: no grant of mode http names it"}
        {"error":"cordon: denied: grant \\"untouched\\" is for Host untouched.test:80, not denied.test:80"}
        {"error":"cordon: denied: grant \\"untouched\\" allows GET /only; POST /only matches none"}
        Operation not permitted
        404

        """)
    #expect(ledger.decisions == ["denied", "denied", "denied", "denied", "allowed", "closed"])
    // Of all names, and of all types: the job's words are in no query whatever.
    let asked = try names.queries().dropFirst(before).map { "\($0.name) \($0.type)" }
    #expect(asked.sorted() == ["counted.test A", "counted.test AAAA"])
    // Control: the name is there for who may ask for it, and is counted then.
    let resolve = "import socket; print(socket.gethostbyname('denied.test'))"
    let outside = try await place.town.run(["/usr/bin/python3", "-I", "-c", resolve])
    #expect(outside.text == place.logs.address + "\n")
    #expect(try names.count(of: "denied.test") > 0)
  }

  @Test("a name bound again to an address that nobody allowed is refused at its next connection, and never dialled")
  func reboundName() async throws {
    let place = try await TownHouse.shared.value
    let host = place.town.block.replacing("0/24", with: "1")
    try place.names.set("rebind.test", to: [.addresses([place.logs.address]), .addresses([host])])
    let (before, _) = (try place.logs.requests().count, place.trap.visits())
    let script = """
      curl -ksS -o /dev/null -w '%{http_code}\\n' https://rebind.test/first
      sleep 1.1 # an answer is used for a second
      curl -ksS -m 5 -o /dev/null -w '%{http_code}\\n' https://rebind.test/second 2>/dev/null
      """
    let (_, text, ledger) = try await place.run(script, grants: ["rebind"])
    #expect(text == "404\n000\n")
    #expect(ledger.decisions == ["allowed", "closed", "denied"])
    #expect(ledger.first?["address"] == .string(place.logs.address))
    #expect(
      ledger.denials == [
        #"grant "rebind": no address of rebind.test may be dialled: \#(host) is private, and allow_private lists no block around it"#
      ])
    #expect(try place.logs.requests().dropFirst(before).map(\.path) == ["/first"])
    #expect(try place.names.queries().count { $0.name == "rebind.test" && $0.type == "A" } == 2)
    #expect(place.trap.visits().isEmpty)
    try await expectTrapIsThere(place)
  }

  @Test("a private address among those that may be dialled is never dialled, whatever its place")
  func mixedAddresses() async throws {
    let place = try await TownHouse.shared.value
    let host = place.town.block.replacing("0/24", with: "1")
    try place.names.set(
      "mixed.test", to: [.addresses([host, "169.254.169.254", place.logs.address, "127.0.0.1", "fd00:ec2::254"])])
    let (before, _) = (try place.logs.requests().count, place.trap.visits())
    let script = """
      for i in 1 2 3; do curl -ksS -o /dev/null -w '%{http_code}\\n' https://mixed.test/$i; done
      """
    let (_, text, ledger) = try await place.run(script, grants: ["mixed"])
    #expect(text == "404\n404\n404\n")
    #expect(ledger.count == 6 && ledger.allSatisfy { $0["address"] == .string(place.logs.address) }, "\(ledger)")
    #expect(try place.logs.requests().dropFirst(before).map(\.path) == ["/1", "/2", "/3"])
    #expect(place.trap.visits().isEmpty)
    try await expectTrapIsThere(place)
  }

  /// Control: where its address is listed it is dialled, and the trap says so.
  private func expectTrapIsThere(_ place: TownHouse) async throws {
    let (visits, ledger) = try await place.caught(by: "echo caught >/dev/tcp/trap.test/443")
    #expect(visits == ["caught\n"])
    #expect(ledger.decisions == ["allowed", "closed"], "\(ledger.denials)")
  }

  @Test("no such name, and a name server that is silent, end in a recorded refusal within seconds")
  func unresolved() async throws {
    let place = try await TownHouse.shared.value
    try place.names.set("gone.test", to: [.nonexistent])
    try place.names.set("silent.test", to: [.silence])
    let script = """
      for name in gone silent; do curl -sS -w '%{http_code} %{time_total}\\n' http://$name.test/; done
      """
    let (_, text, ledger) = try await place.run(script, grants: ["gone", "silent"])
    let lines = text.split(separator: "\n").map(String.init)
    try #require(lines.count == 4, "\(text)")
    let times = try [lines[1], lines[3]].map { try #require(Double($0.dropFirst(4))) }
    print("refused after \(times) s: no such name, silence")
    #expect(lines[0].contains("gone.test cannot be resolved: ") && lines[1].hasPrefix("502 "))
    #expect(lines[2].contains("silent.test cannot be resolved: ") && lines[3].hasPrefix("502 "))
    // The broker's own limit is five seconds.
    #expect(times[0] < 2 * patience && times[1] < 6 * patience)
    #expect(ledger.decisions == ["denied", "denied"] && ledger.map { $0["status"]?.integer } == [502, 502])
    #expect(try place.names.count(of: "gone.test") > 0 && place.names.count(of: "silent.test") > 0)
  }
}
