import Destinations

extension Grant {
  /// How the rule begins that denies what no address is left for.
  var noAddress: String { "grant \"\(name)\": no address of \(host) may be dialled" }
}

/// Which addresses of a granted name may be dialled: a value, without I/O.
///
/// The name was allowed by a person, its addresses by whoever answers for its zone. So every address is judged by itself, and only one
/// that was judged is dialled.
struct Dialling: Equatable, Sendable {
  /// In the resolver's order, without doubles.
  let candidates: [IPAddress]
  /// What was left out, and why.
  let refused: [String]

  /// Tried one after another; a name with hundreds of addresses is no reason to knock on all of them.
  static let mostCandidates = 4

  /// - Parameter own: this host's own addresses, behind which its own services listen.
  init(_ addresses: [IPAddress], for grant: Grant, own: Set<IPAddress>) {
    var candidates: [IPAddress] = []
    var refused: [String] = []
    for address in addresses where !candidates.contains(address) {
      if let reason = Self.objection(to: address, for: grant, own: own) {
        refused.append("\(address) is \(reason)")
      } else {
        candidates.append(address)
      }
    }
    self.candidates = Array(candidates.prefix(Self.mostCandidates))
    self.refused = refused
  }

  /// Nil where the address may be dialled.
  static func objection(to address: IPAddress, for grant: Grant, own: Set<IPAddress>) -> String? {
    let reach = AddressReach(address)
    switch reach {
    case .metadata:
      // A wide block was meant for something else than the instance's credentials.
      let most = address.isV4 ? 32 : 128
      return grant.allowPrivate.contains { $0.bits == most && $0.contains(address) } ? nil : reach.rawValue
    case .global where !own.contains(address): return nil
    default:
      if grant.allowPrivate.contains(where: { $0.contains(address) }) { return nil }
      return reach == .global ? "this host's own" : reach.rawValue
    }
  }
}
