import Credentials
import FoundationEssentials
import Identity
import Logging
import Postgres
import Store
import Synchronization

// Theory of operation: a worker's identity
//
// The identity file holds the worker's login. Only this process writes it, and whoever may read it is the worker.
//
//   first start   the join token's file is read, a password is made, the identity is written down as one that may come to be,
//                 then `enrol` is called with the token's login, and then the file says that it is. A worker that dies in
//                 between, or hears no answer, asks again at its next start; a token that was used means that it has been
//                 heard, which the renewal that follows shows.
//   every start   the identity is renewed, which shows that it is good before anything else is begun.
//   half a life   the next password is written down beside the present one, `renew` is called over any session of the worker's,
//                 and then the file holds the next one alone. Sessions that are open go on; those that are opened later ask
//                 `login` for what is good by then.
//
// What fails is tried again until the life is over by this worker's clock. Then, or when the database says that it is barred, it
// is over for good, and the worker with it: its calls are refused by then, so others have its jobs. Nothing else is taken for that:
// a rule of pg_hba.conf that is missing on a standby, or a right that the database has lost, must not end a fleet's jobs.

/// Keeps the login of an enrolled worker good, and its file true.
public actor IdentityKeeper {
  private let file: IdentityFile
  private var identity: WorkerIdentity {
    didSet { shared.value.withLock { $0 = identity.login } }
  }
  private var pace: IdentityPace
  private let shared: SharedLogin
  private let logger: Logger

  /// What new connections come in with.
  public nonisolated var login: @Sendable () -> ConnectionSettings.Login {
    { [shared] in shared.value.withLock { $0 } }
  }

  private final class SharedLogin: Sendable {
    let value: Mutex<ConnectionSettings.Login>

    init(_ login: ConnectionSettings.Login) { value = Mutex(login) }
  }

  /// Longest wait for the database at the start.
  private static let patience = Duration.seconds(10)

  /// Takes the identity out of its file, or enrols, and renews it.
  /// - Parameters:
  ///   - token: the file of a join token; it is read only where there is no identity yet, or none that is confirmed.
  ///   - name: what people are to call the worker.
  ///   - database: where, without who.
  /// - Throws: `FileProblem`; `IdentityProblem` where neither file nor token is good; `WorkerError` where the identity is over;
  ///   `PostgresError` where the database is away, or may not renew it.
  public init(
    file path: String, token: String?, name: String, database: ConnectionSettings, logger: Logger
  ) async throws {
    file = try IdentityFile(path: path)
    self.logger = logger
    let known = try file.read()
    var joining: JoinToken?
    if known?.isEnrolled != true {
      guard let token else {
        throw IdentityProblem(
          known == nil ? "\(path): is not there" : "\(path): its worker has not enrolled",
          fix: "cordon workers invite, and start with --join TOKEN-FILE")
      }
      guard let read = JoinToken(String(decoding: try GuardedFile.secret(token), as: UTF8.self)) else {
        throw IdentityProblem("\(token): holds no join token", fix: "cordon workers invite --out \(token)")
      }
      joining = read
    }
    if let known, joining.map({ $0.worker == known.role }) ?? true {
      identity = known
    } else if let joining {
      identity = WorkerIdentity(becoming: joining, password: LoginPassword())
      try file.write(identity)
    } else {
      throw IdentityProblem("\(path): is not there", fix: "start with --join TOKEN-FILE")
    }
    shared = SharedLogin(identity.login)
    pace = IdentityPace(asked: .now, seconds: 0)
    try await begin(joining, name: name, database)
  }

  private func begin(_ token: JoinToken?, name: String, _ database: ConnectionSettings) async throws {
    var refusal: PostgresError?
    if let token {
      do {
        try await enrol(token, name: name, database)
        return
      } catch let error as PostgresError where Self.isRefusal(error) {
        // It may be this one that used it.
        refusal = error
      }
    }
    do {
      try await withStore(database, login) { try await self.renew($0) }
    } catch let error as PostgresError where Self.isRefusal(error) {
      if let refusal {
        throw IdentityProblem(
          "the join token enrols nobody: \(refusal.message)",
          fix: Self.fix(of: refusal) ?? "ask an operator for another: cordon workers invite")
      }
      guard error.sqlState != "42501" else { throw error }
      throw WorkerError.barred("\(file.path): \(error.message)", fix: Self.fix(of: error))
    }
    logger.info("identity renewed", metadata: ["role": "\(identity.role)"])
  }

  private func enrol(_ token: JoinToken, name: String, _ database: ConnectionSettings) async throws {
    guard let password = identity.enrolling else {
      throw IdentityProblem("\(file.path): holds no identity", fix: "remove it, and start with --join TOKEN-FILE")
    }
    let asked = ContinuousClock.now
    let verifier = password.verifier()
    let joining = { @Sendable in token.login }
    let made = try await withStore(database, joining) {
      try await $0.enrol(name: name, verifier: verifier)
    }
    guard made.role == identity.role else {
      throw IdentityProblem("the database made \(made.role) of a token for \(identity.role)", fix: "update cordon")
    }
    pace = IdentityPace(asked: asked, seconds: made.seconds)
    identity.enrolled()
    try file.write(identity)
    logger.notice("enrolled", metadata: ["role": "\(identity.role)"])
  }

  /// Renews whenever half of the life is over. Returns why the identity is over, or nil where the task was cancelled.
  public func keep(_ store: Store) async -> WorkerError? {
    while !Task.isCancelled {
      do {
        try await Task.sleep(until: pace.renewal, clock: .continuous)
        while true {
          do {
            try await renew(store)
            logger.info("identity renewed", metadata: ["role": "\(identity.role)"])
            break
          } catch let error as PostgresError where Self.isBarred(error) {
            return .barred(error.message, fix: error.hint)
          } catch {
            if ContinuousClock.now >= pace.end {
              return .barred("it could not be renewed in time: \(error)", fix: (error as? PostgresError)?.hint)
            }
            logger.warning("identity could not be renewed; trying again", metadata: ["error": "\(error)"])
            try await Task.sleep(for: pace.pause)
          }
        }
      } catch { break }
    }
    return nil
  }

  private func renew(_ store: Store) async throws {
    let asked = ContinuousClock.now
    let password = identity.renewing(with: LoginPassword())
    try file.write(identity)
    let seconds: Double
    do {
      seconds = try await store.renew(verifier: password.verifier())
    } catch let error as PostgresError where Self.isWrongPassword(error) && identity.wasRefused() {
      seconds = try await store.renew(verifier: password.verifier())
    }
    pace = IdentityPace(asked: asked, seconds: seconds)
    identity.renewed()
    try file.write(identity)
  }

  private func withStore<Value: Sendable>(
    _ database: ConnectionSettings, _ login: @escaping @Sendable () -> ConnectionSettings.Login,
    _ body: (Store) async throws -> Value
  ) async throws -> Value {
    var settings = database
    settings.login = login
    settings.statementTimeout = Self.patience
    let pool = Pool(settings, maximum: 1, waitLimit: Self.patience)
    do {
      let value = try await body(Store(pool: pool))
      await pool.close()
      return value
    } catch {
      await pool.close()
      throw error
    }
  }

  /// invalid_password: a wrong one, or one whose time is over.
  private static func isWrongPassword(_ error: PostgresError) -> Bool {
    error.kind == .connection && error.sqlState == "28P01"
  }

  /// The login is barred, or the database says that it is over: for good.
  static func isBarred(_ error: PostgresError) -> Bool {
    error.sqlState == Worker.revokedWorker || Worker.isBarredLogin(error)
  }

  /// No other try of the same helps at a start, until somebody has done something.
  static func isRefusal(_ error: PostgresError) -> Bool {
    isBarred(error) || isWrongPassword(error) || isRefusedByRules(error) || error.sqlState == "42501"
  }

  /// By pg_hba.conf, whose rules for the group a login that was barred does not meet any more either.
  private static func isRefusedByRules(_ error: PostgresError) -> Bool {
    error.kind == .connection && error.sqlState == "28000" && !Worker.isBarredLogin(error)
  }

  /// What the database says is to be done, or its rules show; nil where there is nothing but to enrol anew.
  static func fix(of refusal: PostgresError) -> String? {
    refusal.hint
      ?? (isRefusedByRules(refusal)
        ? "cordon workers invite where it was barred; where it was not, let it in by pg_hba.conf" : nil)
  }
}
