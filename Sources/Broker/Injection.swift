import Destinations
import FoundationEssentials

/// What the broker puts into a request that a grant with a credential allows. Its description holds no secret.
public enum Injection: Sendable, CustomStringConvertible {
  case bearer(String)
  case basic(user: String, password: String)
  case header(name: String, value: String)
  /// Fields that depend on the request, such as a signature. Called once a request, with its final method, host and target.
  case sign(@Sendable (OutgoingRequest) async throws -> [HeadSection.Field])

  public var description: String {
    switch self {
    case .bearer: "bearer"
    case .basic: "basic"
    case .header(let name, _): "header \(name)"
    case .sign: "signature"
    }
  }

  /// What a signature is about.
  public struct OutgoingRequest: Sendable {
    public let method: String
    public let host: String
    public let target: String
    public let fields: [HeadSection.Field]
  }

  struct Unusable: Error, CustomStringConvertible {
    let description: String
  }

  /// The fields, each of which takes the place of what the job sent under its name.
  func fields(for request: OutgoingRequest) async throws -> [HeadSection.Field] {
    let fields: [HeadSection.Field]
    switch self {
    case .bearer(let token): fields = [.init(name: "Authorization", value: "Bearer \(token)")]
    case .basic(let user, let password):
      guard !user.contains(":") else { throw Unusable(description: "a user name with a colon") }
      fields = [.init(name: "Authorization", value: "Basic \(Data("\(user):\(password)".utf8).base64EncodedString())")]
    case .header(let name, let value): fields = [.init(name: name, value: value)]
    case .sign(let sign): fields = try await sign(request)
    }
    for field in fields {
      guard !field.name.isEmpty, field.name.utf8.allSatisfy(HeadSection.isToken),
        !OutgoingHead.ownFields.contains(field.name.lowercased())
      else { throw Unusable(description: "a field that no credential can be put into") }
      guard !field.value.isEmpty, field.value.utf8.allSatisfy({ (32...126).contains($0) }) else {
        throw Unusable(description: "a value that is empty or holds control characters")
      }
    }
    guard !fields.isEmpty else { throw Unusable(description: "no field") }
    return fields
  }
}

/// Why there is no credential, where that may be told to the job and to its ledger: it names a member of the attempt's policy, and
/// nothing that only whoever keeps the credential may know.
public struct CredentialRefusal: Error, Equatable {
  /// Goes on from "its credential … is refused: ".
  public let reason: String

  public init(_ reason: String) {
    self.reason = reason
  }
}

/// Where credentials come from. Asked once a request, after the request was allowed and before anything is sent.
public protocol CredentialProvider: Sendable {
  /// Nil, like an error, refuses the request: it is never passed on without what the grant names. Of errors only a
  /// `CredentialRefusal` is told.
  func injection(for grant: Grant, attempt: AttemptAddress) async throws -> Injection?
}

/// For an attempt whose grants name no credential.
public struct NoCredentials: CredentialProvider {
  public init() {}

  public func injection(for grant: Grant, attempt: AttemptAddress) async throws -> Injection? { nil }
}

/// Whom a session of the broker is for.
public struct AttemptAddress: Sendable, Equatable {
  public let job: String
  public let attempt: Int
  /// The fencing token of its lease.
  public let token: Int64
  public let tenant: String

  public init(job: String, attempt: Int, token: Int64, tenant: String) {
    self.job = job
    self.attempt = attempt
    self.token = token
    self.tenant = tenant
  }
}
