/// Where a job wants to go: the one value that is matched, resolved, dialled, verified and logged.
///
/// A host that two readers could read in two ways is no endpoint. Whoever matches one spelling and dials another has been told
/// where to go by the job.
public struct Endpoint: Hashable, Sendable, CustomStringConvertible {
  public enum Host: Hashable, Sendable, CustomStringConvertible {
    /// Lower-case letters, digits and hyphens in labels.
    case name(String)
    case address(IPAddress)

    public var description: String {
      switch self {
      case .name(let name): name
      case .address(let address): address.isV4 ? "\(address)" : "[\(address)]"
      }
    }
  }

  /// Why a text is no endpoint.
  public struct Problem: Error, Equatable, CustomStringConvertible {
    public let description: String
  }

  public let host: Host
  public let port: UInt16

  public init(host: Host, port: UInt16) {
    self.host = host
    self.port = port
  }

  /// From an authority, such as `host:443` or `[::1]:443`.
  /// - Parameter defaultPort: where the text may leave the port out; nil where it must not.
  public init(authority: String, defaultPort: UInt16? = nil) throws(Problem) {
    let bytes = Array(authority.utf8)
    let end: Int
    if bytes.first == UInt8(ascii: "[") {
      guard let closing = bytes.firstIndex(of: UInt8(ascii: "]")) else {
        throw Problem(description: "has no closing bracket")
      }
      end = closing + 1
    } else {
      end = bytes.firstIndex(of: UInt8(ascii: ":")) ?? bytes.count
    }
    host = try Self.host(Array(bytes[..<end]))
    let rest = bytes[end...]
    guard !rest.isEmpty else {
      guard let defaultPort else { throw Problem(description: "names no port") }
      port = defaultPort
      return
    }
    port = try Self.port(rest)
  }

  public var description: String { "\(host):\(port)" }

  /// RFC 1035; without the dot at the end.
  static let longestName = 253
  static let longestLabel = 63

  private static func port(_ rest: ArraySlice<UInt8>) throws(Problem) -> UInt16 {
    let digits = rest.dropFirst()
    guard rest.first == UInt8(ascii: ":"), (1...5).contains(digits.count),
      digits.allSatisfy({ (0x30...0x39).contains($0) }), digits.first != 0x30,
      let port = UInt16(String(decoding: digits, as: UTF8.self))
    else { throw Problem(description: "names no port from 1 to 65535") }
    return port
  }

  package static func host(_ bytes: [UInt8]) throws(Problem) -> Host {
    if bytes.first == UInt8(ascii: "[") {
      let inner = String(decoding: bytes.dropFirst().dropLast(), as: UTF8.self)
      guard inner.contains(":"), let address = IPAddress(inner) else {
        throw Problem(description: "is no IPv6 address")
      }
      return .address(address)
    }
    guard !bytes.isEmpty else { throw Problem(description: "names no host") }
    guard bytes.count <= longestName else { throw Problem(description: "has a host of more than \(longestName) bytes") }
    let text = String(decoding: bytes, as: UTF8.self)
    if let address = IPAddress(text), address.isV4 { return .address(address) }
    let labels = text.split(separator: ".", omittingEmptySubsequences: false)
    for label in labels {
      let isPlain = label.utf8.allSatisfy {
        (0x30...0x39).contains($0) || (0x61...0x7a).contains($0 | 0x20) && $0 & 0x5f >= 0x41 || $0 == UInt8(ascii: "-")
      }
      guard isPlain else { throw Problem(description: "has a host with other than letters, digits, hyphens and dots") }
      guard (1...longestLabel).contains(label.utf8.count) else {
        throw Problem(description: "has an empty label, or one of more than \(longestLabel) bytes")
      }
      guard label.first != "-", label.last != "-" else {
        throw Problem(description: "has a label that begins or ends with a hyphen")
      }
    }
    // Readers of addresses take what ends in a number for one: 2852039166, 0xA9FEA9FE, 0251.0376.0251.0376, 127.1.
    guard let last = labels.last?.lowercased(), last.contains(where: { !$0.isNumber }), !looksHexadecimal(last) else {
      throw Problem(
        description: "ends in a number and is no address; four decimal numbers without leading zeros are one")
    }
    return .name(text.lowercased())
  }

  private static func looksHexadecimal(_ label: String) -> Bool {
    label.hasPrefix("0x") && label.dropFirst(2).allSatisfy(\.isHexDigit)
  }
}
