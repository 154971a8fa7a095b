import Foundation
import TestKit
import Testing

extension TownTests {
  /// A query as it is on the wire, and the addresses of the answer, or why there are none.
  private static let query = """
    import socket, struct, sys
    def ask(server, name, kind):
        question = b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\\0" + struct.pack("!HH", kind, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.5)
            client.sendto(b"\\x12\\x34\\x01\\0\\0\\1\\0\\0\\0\\0\\0\\0" + question, (server, 53))
            try:
                answer = client.recv(4096)
            except TimeoutError:
                return "silence"
        number, flags, _, count = struct.unpack_from("!HHHH", answer)
        assert number == 0x1234 and flags & 0x8400 == 0x8400, hex(flags)
        if flags & 15:
            return "status %d" % (flags & 15)
        at, found = 12 + len(question), []
        for _ in range(count):
            _, kind, _, ttl, length = struct.unpack_from("!HHHIH", answer, at)
            assert ttl == 0
            found.append(socket.inet_ntop({1: socket.AF_INET, 28: socket.AF_INET6}[kind], answer[at + 12:at + 12 + length]))
            at += 12 + length
        return " ".join(found) or "none"
    for words in sys.argv[1:]:
        name, kind = words.split("/")
        print(ask(open("/etc/resolv.conf").read().split()[1], name, {"A": 1, "AAAA": 28}[kind]))
    """

  private func answers(_ town: Town, _ queries: [String]) async throws -> [String] {
    let answer = try await python(town, Self.query, queries)
    #expect(answer.status == 0, "\(answer.stderr)")
    return answer.text.split(separator: "\n").map(String.init)
  }

  @Test("a name that is bound again has another address the next time, and every query is counted")
  func rebinding() async throws {
    let town = try await Self.shared.value
    let names = try await town.dns()
    try names.set("rebind.test", to: [.addresses(["93.184.216.34"]), .addresses(["127.0.0.1"])])
    #expect(
      try await answers(town, ["rebind.test/A", "rebind.test/AAAA", "Rebind.Test/A", "rebind.test/A"]) == [
        "93.184.216.34", "none", "127.0.0.1", "127.0.0.1",
      ])
    #expect(try names.count(of: "rebind.test") == 4)
    #expect(try names.queries().contains { $0.name == "Rebind.Test" && $0.type == "A" })
    try names.set("rebind.test", to: [.addresses(["93.184.216.35"])])
    #expect(try await answers(town, ["rebind.test/A"]) == ["93.184.216.35"])
  }

  @Test("one private address among public ones, none at all, no such name, and silence")
  func otherAnswers() async throws {
    let town = try await Self.shared.value
    let names = try await town.dns()
    try names.set("mixed.test", to: [.addresses(["93.184.216.34", "10.0.0.5", "fd00:ec2::254"])])
    try names.set("gone.test", to: [.nonexistent])
    try names.set("silent.test", to: [.silence])
    #expect(
      try await answers(town, ["mixed.test/A", "mixed.test/AAAA", "gone.test/A", "unknown.test/A", "silent.test/A"])
        == [
          "93.184.216.34 10.0.0.5", "fd00:ec2::254", "status 3", "status 3", "silence",
        ])
    #expect(try names.count(of: "silent.test") == 1 && names.count(of: "never.test") == 0)
  }

  @Test("the C library resolves in the town's place what the town knows, and the host resolves none of it")
  func place() async throws {
    let town = try await Self.shared.value
    try await town.dns().set("corner.internal", to: [.addresses(["10.9.8.7"])])
    let resolve = "import socket; print(socket.gethostbyname('corner.internal'))"
    #expect(try await python(town, resolve).text == "10.9.8.7\n")
    let outside = try await RunningTool(
      command: [try Town.interpreter, "-I", "-c", resolve], environment: [:]
    ).answer()
    #expect(outside.status != 0 && outside.stderr.contains("gaierror"), "\(outside.text)")
  }
}
