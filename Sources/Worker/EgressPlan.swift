import Broker
import Destinations
import Jobs
import Sandbox

/// Where in a cell each grant of an attempt is: what listens, and under which names. A value, without I/O.
///
/// Each host has a loopback address of its own, so that two hosts may be reached on one port, and a name that was not granted has
/// none at all. One listener more is for clients that want a proxy.
struct EgressPlan {
  /// In the job's order.
  let grants: [Grant]
  var grantNames: [String] { grants.map(\.name) }
  /// In the same order, and at last the proxy.
  let listeners: [RequestedNetwork.Listener]
  /// For /etc/hosts.
  let names: [(address: String, name: String)]

  /// Where a client that insists on a proxy finds one; it answers CONNECT for granted endpoints alone.
  static let proxy = "http://127.0.0.1:\(proxyListener.port)"
  private static let proxyListener = RequestedNetwork.Listener(address: 0x7F00_0001, port: 3128)
  /// 127.0.0.2; 127.0.0.1 is the cell's own.
  private static let firstAddress: UInt32 = 0x7F00_0002

  /// Nil where the job asks for no grant of this phase.
  /// - Parameters:
  ///   - asked: names, as the specification has them.
  ///   - offered: the grants of the policy that the attempt runs under.
  /// - Throws: `Refusal` for one that is not there, or cannot be read strictly; then nothing may run.
  init?(asked: [String], offered: [String: JSONValue], phase: Grant.Phase) throws(Refusal) {
    var grants: [Grant] = []
    for name in asked {
      guard let json = offered[name] else { throw Refusal("grants: \(name) is not granted by policy") }
      do {
        let grant = try Grant(name: name, json: json)
        if grant.phase == phase { grants.append(grant) }
      } catch {
        throw Refusal("policy: \(error); this worker may be too old")
      }
    }
    guard !grants.isEmpty else { return nil }
    var addresses: [Endpoint.Host: UInt32] = [:]
    var names: [(String, String)] = []
    for grant in grants where addresses[grant.host] == nil {
      let address = Self.firstAddress + UInt32(addresses.count)
      addresses[grant.host] = address
      // An address cannot be led elsewhere by a file of names; such a grant goes by its own.
      if case .name(let host) = grant.host {
        names.append((Self.text(address), host))
      } else {
        names.append((Self.text(address), grant.name))
      }
    }
    let listeners = grants.map { RequestedNetwork.Listener(address: addresses[$0.host]!, port: $0.listenPort) }
    guard Set(listeners).count == listeners.count else {
      throw Refusal("policy: two grants of one host listen on one port")
    }
    self.grants = grants
    self.names = names
    self.listeners = listeners + [Self.proxyListener]
  }

  private static func text(_ address: UInt32) -> String {
    [24, 16, 8, 0].map { String(address >> $0 & 0xFF) }.joined(separator: ".")
  }
}
