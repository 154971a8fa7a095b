import Destinations
import FoundationEssentials

/// What the broker puts into a request that a grant with a credential allows. Its description holds no secret.
public struct Injection: Sendable, CustomStringConvertible {
  private enum Form {
    case field(name: String, value: String)
    case sign(@Sendable (OutgoingRequest) async throws -> [HeadSection.Field])
  }

  private let form: Form
  /// Which secret of its source it is; for the ledger.
  public let version: String

  public static func bearer(_ token: String, version: String = "") -> Injection {
    .header(name: "Authorization", value: "Bearer \(token)", version: version)
  }

  public static func basic(user: String, password: String, version: String = "") -> Injection {
    // A colon in the user's name would be taken for the end of it; an empty value is refused.
    let value = user.contains(":") ? "" : "Basic \(Data("\(user):\(password)".utf8).base64EncodedString())"
    return .header(name: "Authorization", value: value, version: version)
  }

  public static func header(name: String, value: String, version: String = "") -> Injection {
    Injection(form: .field(name: name, value: value), version: version)
  }

  /// Fields that depend on the request, such as a signature. Called once a request, with its final method, host and target.
  public static func sign(
    version: String = "", _ sign: @escaping @Sendable (OutgoingRequest) async throws -> [HeadSection.Field]
  ) -> Injection {
    Injection(form: .sign(sign), version: version)
  }

  public var description: String {
    switch form {
    case .field(let name, _): "header \(name)"
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
    switch form {
    case .field(let name, let value): fields = [.init(name: name, value: value)]
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
