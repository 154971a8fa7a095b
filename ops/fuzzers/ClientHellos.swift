@testable import Broker
@testable import Destinations

/// The first message of a TLS connection, which a job sends.
enum ClientHellos: Fuzzer {
  static var seeds: [[UInt8]] {
    // TLS 1.2's first bytes, 34 of version and random, no session, one suite, one compression, extensions: a name, and two others.
    let name = Array("packages.internal".utf8)
    let list: [UInt8] = [0, 0, UInt8(name.count)] + name
    let server: [UInt8] = [0, 0, 0, UInt8(list.count + 2), 0, UInt8(list.count)] + list
    let extensions: [UInt8] = server + [0, 23, 0, 0, 0, 43, 0, 3, 2, 3, 4]
    let body: [UInt8] =
      [3, 3] + Array(repeating: 7, count: 32) + [0, 0, 2, 19, 1, 1, 0, 0, UInt8(extensions.count)] + extensions
    return [[22, 3, 1, 0, UInt8(body.count + 4), 1, 0, 0, UInt8(body.count)] + body, [22, 3, 1, 0, 4, 1, 0, 0, 0]]
  }

  static func run(_ bytes: [UInt8]) {
    let reading = ClientHello.read(bytes)
    switch reading {
    case .incomplete: expect(bytes.count < ClientHello.mostBytes, "nobody is waited for without end")
    case .refused(let reason): expect(!reason.isEmpty, "a refusal says why")
    case .hello(let hello):
      expect((try? Endpoint.host(Array(hello.serverName.utf8))) == .name(hello.serverName), "the name is a host's")
      let record = 5 + Int(bytes[3]) << 8 + Int(bytes[4])
      expect(ClientHello.read(Array(bytes.prefix(record))) == reading, "what comes behind the record changes nothing")
    }
  }
}
