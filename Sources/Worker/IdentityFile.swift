import FoundationEssentials
import Identity

/// Why a worker has no identity, and what to do.
public struct IdentityProblem: Error, Equatable, CustomStringConvertible {
  public let description: String

  init(_ what: String, fix: String) {
    description = "\(what) (fix: \(fix))"
  }
}

/// Where an identity lies: readable by its owner alone, always whole, and one worker's.
struct IdentityFile {
  let path: String
  /// Beside it, because the file itself is replaced; held while this value or a copy of it is there.
  private let lock: GuardedFile.Lock

  /// Makes the directory where there is none.
  /// - Throws: where another worker has it: two that renew one login take it from each other.
  init(path: String) throws(FileProblem) {
    self.path = path
    try GuardedFile.makeDirectory(of: path)
    lock = try GuardedFile.Lock(path + ".lock")
  }

  /// Nil where there is none.
  func read() throws -> WorkerIdentity? {
    guard GuardedFile.exists(path) else { return nil }
    do {
      return try JSONDecoder().decode(WorkerIdentity.self, from: Data(try GuardedFile.secret(path)))
    } catch is DecodingError {
      throw IdentityProblem(
        "\(path): holds no identity", fix: "name another file, or remove it and start with --join TOKEN-FILE")
    }
  }

  func write(_ identity: WorkerIdentity) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    try GuardedFile.replace(path, with: Array(try encoder.encode(identity)) + [10])
  }
}
