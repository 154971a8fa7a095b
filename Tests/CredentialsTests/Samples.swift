import Credentials
import Foundation
import Jobs

func attempt(
  _ token: Int64 = 4_711, tenant: String = "finance", queue: String = "nightly", for time: Duration = .seconds(600)
) -> CredentialAttempt {
  CredentialAttempt(job: "job", attempt: 1, token: token, tenant: tenant, queue: queue, deadline: .now + time)
}

func json(_ text: String) throws -> JSONValue { try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8)) }

/// A directory of one test.
final class Place: Sendable {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.appending(path: "cordon-credentials-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// Puts another file in its place, as tools that rotate secrets do.
  @discardableResult
  func write(_ text: String, to name: String, mode: Int = 0o600) throws -> String {
    let (path, new) = (self.path + "/" + name, self.path + "/.new")
    try Data(text.utf8).write(to: URL(fileURLWithPath: new))
    try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: new)
    guard rename(new, path) == 0 else { throw CocoaError(.fileWriteUnknown) }
    return path
  }
}
