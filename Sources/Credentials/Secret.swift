import Glibc

/// Bytes that nobody may read but who uses them.
///
/// It prints as `[secret]` in every way that Swift prints a value, is not `Codable`, and its memory is overwritten when
/// the last copy goes. What it says of itself is `version`, which goes into the record.
public struct Secret: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  /// Shorter ones are guessed, and could not be taken out of what a job prints without destroying it.
  public static let leastBytes = 8
  /// No token or key is longer; what is, is the wrong file.
  public static let mostBytes = 65_536

  /// Which secret of its source this is: a file's time of change, Vault's version number, a role's name. Never made from
  /// the bytes, which a short secret could be guessed by.
  public let version: String
  private let storage: Storage

  /// - Throws: `CredentialError` of kind `unusable` for what is too short or too long.
  public init(_ bytes: some Collection<UInt8>, version: String) throws(CredentialError) {
    guard bytes.count >= Self.leastBytes else {
      throw CredentialError(.unusable, "a secret has at least \(Self.leastBytes) bytes; this one has \(bytes.count)")
    }
    guard bytes.count <= Self.mostBytes else {
      throw CredentialError(.unusable, "a secret has at most \(Self.mostBytes) bytes; this one has \(bytes.count)")
    }
    self.version = version
    storage = Storage(bytes)
  }

  public init(_ text: String, version: String) throws(CredentialError) {
    try self.init(Array(text.utf8), version: version)
  }

  public var count: Int { storage.bytes.count }

  /// The bytes, as long as `body` runs.
  public func withBytes<Value>(_ body: (UnsafeRawBufferPointer) throws -> Value) rethrows -> Value {
    try body(UnsafeRawBufferPointer(storage.bytes))
  }

  /// The bytes as a text for a header or a login; nil where they are no UTF-8.
  var text: String? { withBytes { String(validating: $0, as: UTF8.self) } }

  /// Takes as long for secrets that differ in the first byte as for those that differ in the last. Versions do not count.
  public static func == (left: Secret, right: Secret) -> Bool {
    guard left.count == right.count else { return false }
    return zip(left.storage.bytes, right.storage.bytes).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
  }

  public var description: String { "[secret]" }
  public var debugDescription: String { "[secret]" }
  public var customMirror: Mirror { Mirror(self, children: [:]) }

  /// Written once, before anybody else can see it.
  private final class Storage: @unchecked Sendable {
    let bytes: UnsafeMutableBufferPointer<UInt8>

    init(_ source: some Collection<UInt8>) {
      bytes = .allocate(capacity: source.count)
      _ = bytes.initialize(fromContentsOf: source)
    }

    deinit {
      explicit_bzero(bytes.baseAddress!, bytes.count)
      bytes.deallocate()
    }
  }
}
