/// An IPv4 or IPv6 address: a value, without I/O. One address is one value, however it was written.
public enum IPAddress: Hashable, Sendable {
  case v4(UInt32)
  case v6(high: UInt64, low: UInt64)

  /// From the one spelling that all readers agree on.
  ///
  /// Four decimal numbers without leading zeros, or RFC 4291's text of an IPv6 address, without a zone and without brackets.
  /// What `inet_aton` and browsers take besides (octal, hexadecimal, fewer than four numbers) is nil. A mapped address
  /// (`::ffff:0:0/96`) is the IPv4 address that it stands for: that is where a packet to it goes.
  public init?(_ text: some StringProtocol) {
    let bytes = Array(text.utf8)
    guard bytes.count <= Self.longestText else { return nil }
    if bytes.contains(UInt8(ascii: ":")) {
      guard let groups = Self.groups(bytes) else { return nil }
      self.init(groups: groups)
    } else {
      guard let number = Self.quad(bytes[...]) else { return nil }
      self = .v4(number)
    }
  }

  /// From eight groups of 16 bits.
  init(groups: [UInt16]) {
    precondition(groups.count == 8, "an IPv6 address has eight groups")
    let high = groups[0..<4].reduce(0 as UInt64) { $0 << 16 | UInt64($1) }
    let low = groups[4..<8].reduce(0 as UInt64) { $0 << 16 | UInt64($1) }
    self = high == 0 && low >> 32 == 0xffff ? .v4(UInt32(truncatingIfNeeded: low)) : .v6(high: high, low: low)
  }

  /// Of `0000:…:255.255.255.255`.
  private static let longestText = 45

  private static func quad(_ bytes: ArraySlice<UInt8>) -> UInt32? {
    let parts = bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var number: UInt32 = 0
    for part in parts {
      guard (1...3).contains(part.count), part.allSatisfy({ (0x30...0x39).contains($0) }),
        part.count == 1 || part.first != 0x30, let value = UInt8(String(decoding: part, as: UTF8.self))
      else { return nil }
      number = number << 8 | UInt32(value)
    }
    return number
  }

  private static func groups(_ bytes: [UInt8]) -> [UInt16]? {
    var text = bytes[...]
    var tail: [UInt16] = []
    // The last 32 bits may be written as an IPv4 address.
    if let dot = text.firstIndex(of: UInt8(ascii: ".")) {
      guard let colon = text[..<dot].lastIndex(of: UInt8(ascii: ":")), let number = quad(text[(colon + 1)...]) else {
        return nil
      }
      tail = [UInt16(number >> 16), UInt16(truncatingIfNeeded: number)]
      text = text[...colon]
      // The colon before it belongs to it, unless it is one of two.
      if !text.dropLast().isEmpty, text.dropLast().last != UInt8(ascii: ":") { text = text.dropLast() }
    }
    let most = 8 - tail.count
    guard let gap = firstGap(text) else {
      guard let all = hexGroups(text), all.count == most else { return nil }
      return all + tail
    }
    guard let left = hexGroups(text[..<gap]), let right = hexGroups(text[(gap + 2)...]), left.count + right.count < most
    else { return nil }
    return left + Array(repeating: 0, count: most - left.count - right.count) + right + tail
  }

  /// Where `::` stands.
  private static func firstGap(_ text: ArraySlice<UInt8>) -> Int? {
    zip(text.indices, text.indices.dropFirst()).first {
      text[$0] == UInt8(ascii: ":") && text[$1] == UInt8(ascii: ":")
    }?.0
  }

  private static func hexGroups(_ text: ArraySlice<UInt8>) -> [UInt16]? {
    guard !text.isEmpty else { return [] }
    var groups: [UInt16] = []
    for part in text.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false) {
      let isHex = part.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0 | 0x20) }
      guard (1...4).contains(part.count), isHex, let group = UInt16(String(decoding: part, as: UTF8.self), radix: 16)
      else {
        return nil
      }
      groups.append(group)
    }
    return groups
  }
}

extension IPAddress: CustomStringConvertible {
  /// The canonical text (RFC 5952).
  public var description: String {
    switch self {
    case .v4(let number):
      return (0..<4).reversed().map { "\(number >> (8 * $0) & 255)" }.joined(separator: ".")
    case .v6(let high, let low):
      let groups = (0..<8).map { UInt16(truncatingIfNeeded: ($0 < 4 ? high : low) >> (48 - 16 * (UInt64($0) % 4))) }
      var longest = 0..<0
      var index = 0
      while index < 8 {
        guard groups[index] == 0 else {
          index += 1
          continue
        }
        let end = groups[index...].firstIndex { $0 != 0 } ?? 8
        if end - index > max(longest.count, 1) { longest = index..<end }
        index = end
      }
      func text(_ range: Range<Int>) -> String { range.map { String(groups[$0], radix: 16) }.joined(separator: ":") }
      return longest.isEmpty ? text(0..<8) : "\(text(0..<longest.lowerBound))::\(text(longest.upperBound..<8))"
    }
  }
}

/// A block of addresses, as in `10.0.0.0/8`.
public struct AddressBlock: Hashable, Sendable, CustomStringConvertible {
  public let first: IPAddress
  /// Leading bits that all its addresses share.
  public let bits: Int

  /// Nil unless the address is the block's first.
  public init?(_ text: some StringProtocol) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let first = IPAddress(parts[0]), let bits = Int(parts[1]), "\(bits)" == parts[1],
      (0...(first.isV4 ? 32 : 128)).contains(bits)
    else { return nil }
    self.first = first
    self.bits = bits
    // A block that is written with bits of a host is somebody's mistake.
    guard AddressBlock.masked(first, bits) == first else { return nil }
  }

  public func contains(_ address: IPAddress) -> Bool {
    address.isV4 == first.isV4 && AddressBlock.masked(address, bits) == first
  }

  public var description: String { "\(first)/\(bits)" }

  private static func masked(_ address: IPAddress, _ bits: Int) -> IPAddress {
    switch address {
    case .v4(let number): .v4(number & mask32(bits))
    case .v6(let high, let low): .v6(high: high & mask64(bits), low: low & mask64(bits - 64))
    }
  }

  private static func mask32(_ bits: Int) -> UInt32 {
    bits <= 0 ? 0 : bits >= 32 ? .max : ~(UInt32.max >> UInt32(bits))
  }
  private static func mask64(_ bits: Int) -> UInt64 {
    bits <= 0 ? 0 : bits >= 64 ? .max : ~(UInt64.max >> UInt64(bits))
  }
}

extension IPAddress {
  package var isV4: Bool { if case .v4 = self { true } else { false } }
}
