/// What an address is for. Nothing but `global` is dialled unless the grant lists a block around it.
///
/// Sources: IANA's IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and what was added since), and the clouds' own
/// documents for `metadata`.
public enum AddressReach: String, Sendable, CaseIterable {
  case global
  /// The instance's own credentials lie behind these, one of them at a globally routed address.
  case metadata
  case loopback
  case linkLocal = "link-local"
  /// RFC 1918, carriers' shared space, and the unique local addresses of IPv6.
  case `private`
  case multicast
  /// An IPv6 address that a translator or a tunnel turns into an IPv4 address, whichever that is.
  case translated
  /// Documentation, benchmarks, protocols, what is not assigned, and what means nobody.
  case reserved

  package init(_ address: IPAddress) {
    self = Self.blocks.first { $0.block.contains(address) }?.reach ?? (address.isV4 ? .global : .reserved)
  }

  /// The first that contains an address decides.
  package static let blocks: [(block: AddressBlock, reach: AddressReach)] = [
    // Amazon, Google, Azure, Oracle, DigitalOcean, OpenStack; Amazon's containers and pods; Azure's host; Alibaba; Oracle's other;
    // Scaleway; Tencent.
    ("169.254.169.254/32", metadata), ("169.254.170.2/32", metadata), ("169.254.170.23/32", metadata),
    ("168.63.129.16/32", metadata), ("100.100.100.200/32", metadata), ("192.0.0.192/32", metadata),
    ("169.254.42.42/32", metadata), ("fd00:42::42/128", metadata), ("169.254.0.23/32", metadata),
    ("fd00:ec2::254/128", metadata), ("fd00:ec2::23/128", metadata), ("fd20:ce::254/128", metadata),
    ("0.0.0.0/8", reserved), ("10.0.0.0/8", .private), ("100.64.0.0/10", .private), ("127.0.0.0/8", loopback),
    ("169.254.0.0/16", linkLocal), ("172.16.0.0/12", .private), ("192.0.0.0/24", reserved), ("192.0.2.0/24", reserved),
    ("192.88.99.0/24", reserved), ("192.168.0.0/16", .private), ("198.18.0.0/15", reserved),
    ("198.51.100.0/24", reserved), ("203.0.113.0/24", reserved), ("224.0.0.0/4", multicast), ("240.0.0.0/4", reserved),
    ("::/128", reserved), ("::1/128", loopback), ("::/96", translated), ("64:ff9b::/96", translated),
    ("64:ff9b:1::/48", translated), ("2002::/16", translated), ("2001::/32", translated), ("fc00::/7", .private),
    ("fe80::/10", linkLocal), ("fec0::/10", .private), ("ff00::/8", multicast), ("2001:db8::/32", reserved),
    ("2001::/23", reserved), ("3fff::/20", reserved), ("2000::/3", global),
  ].map { (AddressBlock($0.0)!, $0.1) }

}
