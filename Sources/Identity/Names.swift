import FoundationEssentials

/// The issuer's name: the URL that `iss` says, beneath which relying parties find its documents.
public struct IssuerURL: Equatable, Sendable, CustomStringConvertible {
  public let description: String
  /// The host, without a port.
  public let host: String

  /// OpenID Connect Discovery 1.0, section 3, wants https and neither a query nor a fragment. Relying parties compare it byte by byte,
  /// so there is one spelling: a lower-case host, no slash at the end, nothing encoded, no dot segments.
  public init(_ text: String) throws(NameProblem) {
    let scheme = "https://"
    guard text.hasPrefix(scheme), text.utf8.count <= 255 else {
      throw NameProblem("issuer", text, "is no https URL of at most 255 bytes")
    }
    let parts = text.dropFirst(scheme.count).split(separator: "/", omittingEmptySubsequences: false)
    let authority = parts[0].split(separator: ":", omittingEmptySubsequences: false)
    let labels = authority[0].split(separator: ".", omittingEmptySubsequences: false)
    guard
      labels.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy { Self.isLowerOrDigit($0) || $0 == UInt8(ascii: "-") } })
    else {
      throw NameProblem("issuer", text, "has a host with other than lower-case letters, digits, hyphens and dots")
    }
    guard
      authority.count == 1 || authority.count == 2 && UInt16(authority[1]).map({ String($0) == authority[1] }) == true
    else {
      throw NameProblem("issuer", text, "has no port behind its colon")
    }
    for segment in parts.dropFirst() {
      guard PathSegment.isOne(segment) else {
        throw NameProblem(
          "issuer", text, "has a path that is spelt in more than one way, a query, a fragment or a slash at the end")
      }
    }
    description = text
    host = String(authority[0])
  }

  static func isLowerOrDigit(_ byte: UInt8) -> Bool { (0x61...0x7a).contains(byte) || (0x30...0x39).contains(byte) }
}

/// The name under which an organisation's workloads are known (SPIFFE ID, section 2.1).
public struct TrustDomain: Equatable, Sendable, CustomStringConvertible {
  public let description: String

  public init(_ text: String) throws(NameProblem) {
    guard (1...255).contains(text.utf8.count),
      text.utf8.allSatisfy({ IssuerURL.isLowerOrDigit($0) || "-._".utf8.contains($0) })
    else {
      throw NameProblem(
        "trust domain", text, "is not 1 to 255 lower-case letters, digits, dots, hyphens and underscores")
    }
    description = text
  }
}

/// Who a workload is to relying parties: `spiffe://TRUST-DOMAIN/tenant/TENANT/queue/QUEUE`.
///
/// It is the same for every attempt of a queue, because relying parties grant rights to a subject they compare as a whole; the job, the
/// attempt and its fencing token are claims beside it. Names that a SPIFFE ID cannot hold are refused and not encoded: the
/// specification has no encoding (SPIFFE ID, section 2.2), and the database allows no such tenant or queue.
public struct WorkloadSubject: Equatable, Sendable, CustomStringConvertible {
  public let description: String

  public init(_ trustDomain: TrustDomain, tenant: String, queue: String) throws(NameProblem) {
    for (what, name) in [("tenant", tenant), ("queue", queue)] {
      guard PathSegment.isOne(name), name.utf8.count <= 63 else {
        throw NameProblem(what, name, "is not 1 to 63 letters, digits, dots, hyphens and underscores")
      }
    }
    description = "spiffe://\(trustDomain)/tenant/\(tenant)/queue/\(queue)"
  }
}

enum PathSegment {
  /// SPIFFE ID, section 2.2: letters, digits, dots, hyphens and underscores; neither `.` nor `..`.
  static func isOne(_ text: some StringProtocol) -> Bool {
    !text.isEmpty && text != "." && text != ".."
      && text.utf8.allSatisfy {
        IssuerURL.isLowerOrDigit($0) || (0x41...0x5a).contains($0) || "-._".utf8.contains($0)
      }
  }
}

/// Why a text names nobody.
public struct NameProblem: Error, Equatable, CustomStringConvertible {
  public let description: String

  init(_ what: String, _ text: String, _ why: String) {
    // What is refused may hold what no terminal should see.
    let shown = text.unicodeScalars.prefix(80).map { $0.isASCII && $0.value > 31 && $0.value != 127 ? String($0) : "?" }
    description = "\(what): '\(shown.joined())' \(why)"
  }
}
