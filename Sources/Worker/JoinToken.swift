import Credentials
import Postgres

/// What an operator hands to a host so that one worker enrols there: the name and the password of a login that can do nothing else.
///
/// Written `cordon-join_NUMBER_PASSWORD`, so that it is found where somebody has left it lying about.
public struct JoinToken: Sendable {
  private static let beginning = "cordon-join_"
  private static let rolePrefix = "cordon_join_"

  /// What the names of its login and of the worker's end with: 16 hexadecimal digits.
  let number: String
  let password: LoginPassword

  /// - Parameter role: as `cordon.create_join_token` named it.
  public init?(role: String, password: LoginPassword) {
    guard role.hasPrefix(Self.rolePrefix) else { return nil }
    self.init(number: role.dropFirst(Self.rolePrefix.count), password: password)
  }

  /// Nil for a text that is none.
  public init?(_ text: String) {
    guard text.hasPrefix(Self.beginning) else { return nil }
    let parts = text.dropFirst(Self.beginning.count).split(separator: "_", maxSplits: 1)
    guard parts.count == 2, let password = LoginPassword(parts[1]) else { return nil }
    self.init(number: parts[0], password: password)
  }

  private init?(number: Substring, password: LoginPassword) {
    guard number.utf8.count == 16, number.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) }) else {
      return nil
    }
    self.number = String(number)
    self.password = password
  }

  /// The token itself. It is shown once and goes into no log.
  public var text: String { Self.beginning + number + "_" + password.text }

  var login: ConnectionSettings.Login { .init(user: Self.rolePrefix + number, password: password.text) }
  /// Who enrols with it becomes this (`cordon.enrol`).
  var worker: String { "cordon_worker_" + number }
}
