import Credentials
import Postgres

/// The login of an enrolled worker, as it lies in the worker's identity file; what is done with it as a value, without I/O.
///
/// A password that is about to become the login's is written down before the database is told, and its answer may be lost. So there
/// may be two, and the database knows which is right. Only what it confirmed replaces the other.
struct WorkerIdentity: Sendable, Equatable, Codable {
  let role: String
  private var password: String
  /// What the database was asked to take and has not confirmed.
  private var next: String?
  /// False until the database has confirmed that there is this login.
  private(set) var isEnrolled: Bool
  /// Of two, the one to come in with.
  private var triesNext = false

  private enum CodingKeys: String, CodingKey { case role, password, next, isEnrolled }

  /// Of who is about to enrol.
  init(becoming token: JoinToken, password: LoginPassword) {
    role = token.worker
    self.password = password.text
    isEnrolled = false
  }

  /// What is to be sent as the verifier of when it enrols; nil where what stands there is no password.
  var enrolling: LoginPassword? { LoginPassword(password) }

  mutating func enrolled() { isEnrolled = true }

  /// What to ask the database to take: what it may have taken already, if there is any.
  mutating func renewing(with fresh: @autoclosure () -> LoginPassword) -> LoginPassword {
    let asked = next.flatMap { LoginPassword($0) } ?? fresh()
    next = asked.text
    return asked
  }

  mutating func renewed() {
    if let next { password = next }
    next = nil
    triesNext = false
    isEnrolled = true
  }

  /// The database let nobody in with what `login` said.
  /// - Returns: whether there is another one to try.
  mutating func wasRefused() -> Bool {
    guard next != nil else { return false }
    triesNext.toggle()
    return true
  }

  var login: ConnectionSettings.Login {
    .init(user: role, password: triesNext ? next ?? password : password)
  }
}

/// When an identity of a life is renewed, and when it is over, on the worker's own clock: which counts from before it asked, so that
/// it is never later than the database's.
struct IdentityPace: Equatable {
  /// Half a life: what fails then can be tried again for as long.
  let renewal: ContinuousClock.Instant
  let end: ContinuousClock.Instant
  /// Between two tries.
  let pause: Duration

  init(asked: ContinuousClock.Instant, seconds: Double) {
    renewal = asked + .seconds(seconds / 2)
    end = asked + .seconds(seconds)
    pause = min(max(.seconds(seconds / 20), .milliseconds(200)), .seconds(30))
  }
}
