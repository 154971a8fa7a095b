import Destinations
import Foundation
import Testing

@testable import Broker

@Suite struct ClientHelloTests {
  /// A hello as this module's own tests write one; `real` is OpenSSL's.
  private func hello(
    name: [UInt8]? = Array("a.b".utf8), nameType: UInt8 = 0, extra: [(UInt16, [UInt8])] = [], tail: [UInt8] = []
  ) -> [UInt8] {
    func sized(_ bytes: [UInt8], _ count: Int) -> [UInt8] {
      (0..<count).reversed().map { UInt8(truncatingIfNeeded: bytes.count >> (8 * $0)) } + bytes
    }
    var extensions: [UInt8] = []
    if let name { extensions += [0, 0] + sized(sized([nameType] + sized(name, 2), 2), 2) }
    for (type, content) in extra {
      extensions += [UInt8(type >> 8), UInt8(truncatingIfNeeded: type)] + sized(content, 2)
    }
    var body = [UInt8](repeating: 3, count: 34)
    body += sized([], 1) + sized([0x13, 0x01], 2) + sized([0], 1) + sized(extensions, 2) + tail
    return [22, 3, 1] + sized([1] + sized(body, 3), 2)
  }

  private func refusal(_ bytes: [UInt8]) -> String? {
    if case .refused(let reason) = ClientHello.read(bytes) { reason } else { nil }
  }

  /// What OpenSSL sends for a name, through Python.
  private func real(_ name: String?) throws -> [UInt8] {
    let program = """
      import ssl, sys
      context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
      sent = ssl.MemoryBIO()
      tls = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=(sys.argv[1] or None))
      try: tls.do_handshake()
      except ssl.SSLWantReadError: pass
      sys.stdout.buffer.write(sent.read())
      """
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
    process.arguments = ["-c", program, name ?? ""]
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let bytes = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    try #require(process.terminationStatus == 0)
    return Array(bytes)
  }

  @Test func whatOpenSSLSendsIsRead() throws {
    let bytes = try real("Packages.Internal")
    #expect(ClientHello.read(bytes) == .hello(ClientHello(serverName: "packages.internal")))
    // What comes behind the record is not this reader's.
    #expect(ClientHello.read(bytes + [1, 2, 3]) == .hello(ClientHello(serverName: "packages.internal")))
    for end in 0..<bytes.count { #expect(ClientHello.read(Array(bytes.prefix(end))) == .incomplete, "\(end)") }
    #expect(refusal(try real(nil))?.contains("no SNI") == true)
  }

  @Test("NW-15: no name, two names, a hidden one, or a message in pieces")
  func refused() {
    #expect(ClientHello.read(hello()) == .hello(ClientHello(serverName: "a.b")))
    #expect(refusal(hello(name: nil))?.contains("no SNI") == true)
    #expect(refusal(hello(extra: [(0xfe0d, [0])]))?.contains("ECH") == true)
    #expect(refusal(hello(extra: [(0, [0, 6, 0, 0, 3, 99, 46, 100])]))?.contains("twice") == true)
    #expect(refusal(hello(extra: [(23, []), (23, [])]))?.contains("twice") == true)
    #expect(refusal(hello(nameType: 1)) != nil)
    #expect(refusal(hello(tail: [0])) != nil)
    for name in ["", "a.b\0", "a b", "10.0.0.1", "A.b.", "a.b:443", "[::1]", String(repeating: "a", count: 300)] {
      #expect(refusal(hello(name: Array(name.utf8))) != nil, "\(name)")
    }
    // Two names in one list.
    var two = hello()
    let entry: [UInt8] = [0, 0, 3, 97, 46, 98]
    let list = entry + entry
    two = hello(name: nil, extra: [(0, [0, UInt8(list.count)] + list)])
    #expect(refusal(two)?.contains("more than one") == true)
    // The message goes on in a second record.
    let whole = hello()
    let half = (whole.count - 5) / 2
    let first: [UInt8] = [22, 3, 1, 0, UInt8(half)] + whole[5..<(5 + half)]
    #expect(
      refusal(first + [22, 3, 1, 0, UInt8(whole.count - 5 - half)] + whole[(5 + half)...])?.contains("pieces") == true)
    for bytes: [UInt8] in [
      [21], [23, 3, 3], [22, 2, 0, 0, 5], [22, 3, 4, 0, 5], [22, 3, 1, 0, 3], [22, 3, 1, 0x40, 1], [22, 3, 1, 0, 9, 2],
      Array("GET / HTTP/1.1".utf8),
    ] {
      #expect(refusal(bytes) != nil, "\(bytes)")
    }
  }

  /// However one byte is changed, the reader ends with an answer, and the name is one that a host can have.
  @Test func everyByteOfItMayBeAnything() {
    let bytes = hello(extra: [(23, []), (43, [2, 3, 4])])
    for index in bytes.indices {
      for value: UInt8 in [0, 1, 0x7f, 0x80, 0xff, bytes[index] &+ 1, bytes[index] &- 1] {
        var changed = bytes
        changed[index] = value
        if case .hello(let read) = ClientHello.read(changed) {
          #expect((try? Endpoint.host(Array(read.serverName.utf8))) == .name(read.serverName))
        }
      }
    }
  }
}
