import Glibc

/// A secret from the worker's environment, taken once at its start.
public struct EnvironmentSource: CredentialSource {
  private let secret: Secret

  /// Takes the variable, and takes it away: what this process starts does not inherit it, and its bytes are overwritten
  /// where they lay, because `/proc/self/environ` shows that memory and not what the C library knows.
  ///
  /// Before other threads run: the C library's environment has no lock that they would take.
  /// - Throws: `CredentialError` where it is not set, or is no secret. It is taken away then, too.
  public init(taking variable: String) throws(CredentialError) {
    guard let value = getenv(variable) else {
      throw CredentialError(.unavailable, "the environment variable \(variable) is not set")
    }
    let bytes = UnsafeRawBufferPointer(start: value, count: strlen(value))
    defer {
      explicit_bzero(value, bytes.count)
      unsetenv(variable)
    }
    do {
      secret = try Secret(bytes, version: "taken at start")
    } catch {
      throw error.named("the environment variable \(variable)")
    }
  }

  public func fetch(for attempt: CredentialAttempt) async throws(CredentialError) -> Secret { secret }
}
