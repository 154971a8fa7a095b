/// A control this host does not give, with what an operator can do about it.
public struct Unavailable: Error, Equatable, Sendable, CustomStringConvertible {
  /// The control: `cgroup.memory`, `namespaces.user`, `seccomp`, ….
  public var control: String
  /// The call or look-up that showed it.
  public var stage: String
  /// 0 where no call failed.
  public var errno: Int32
  public var fix: String

  public init(control: String, stage: String, errno: Int32 = 0, fix: String) {
    self.control = control
    self.stage = stage
    self.errno = errno
    self.fix = fix
  }

  public init(control: String, _ error: SystemError, fix: String) {
    self.init(control: control, stage: error.stage, errno: error.errno, fix: fix)
  }

  public var description: String { "\(control): \(SystemError(stage, errno: errno)); \(fix)" }
}

/// Runs `body`; a failing call becomes the lack of `control`.
func requiring<Value>(
  _ control: String, fix: @autoclosure () -> String, _ body: () throws(SystemError) -> Value
) throws(Unavailable) -> Value {
  do { return try body() } catch { throw Unavailable(control: control, error, fix: fix()) }
}
