@testable import Destinations

/// Where a job wants to go, as it writes it.
enum Endpoints: Fuzzer {
  static var seeds: [[UInt8]] {
    [
      "packages.internal:443", "10.0.0.1:80", "[2001:db8::1]:8080", "[::ffff:169.254.169.254]:80", "xn--a.b:1",
      "0251.0376.0251.0376:80", "[64:ff9b::a9fe:a9fe]:80", "user@a.b:80", "a.b.:80",
    ].map { Array($0.utf8) }
  }

  static func run(_ bytes: [UInt8]) {
    let text = String(decoding: bytes, as: UTF8.self)
    if let address = IPAddress(text) {
      expect(IPAddress(address.description) == address, "an address has one canonical text: \(address)")
      let reach = AddressReach(address)
      let containing = AddressReach.blocks.filter { $0.block.contains(address) }
      expect(containing.isEmpty || containing.contains { $0.reach == reach }, "a reach is that of a block around it")
    }
    guard let endpoint = try? Endpoint(authority: text) else { return }
    expect((try? Endpoint(authority: endpoint.description)) == endpoint, "an endpoint has one spelling: \(endpoint)")
    if case .name(let name) = endpoint.host {
      expect(
        name.utf8.allSatisfy { $0 == 0x2d || $0 == 0x2e || (0x30...0x39).contains($0) || (0x61...0x7a).contains($0) },
        "\(name)")
      expect(IPAddress(name) == nil, "a name is no address: \(name)")
    }
  }
}
