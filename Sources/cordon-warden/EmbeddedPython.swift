import Glibc
import Kernel

/// The interpreter's library, loaded into this process. Only by the process's one thread.
struct EmbeddedPython {
  private let library: UnsafeMutableRawPointer
  private let runText: @convention(c) (UnsafePointer<CChar>) -> Int32

  /// The command's own library, so that they have one standard library between them. Debian names the interpreter
  /// `python3.N`, with `python3` as a link to it.
  static func libraryName(interpreter: String) -> String { "lib\(interpreter).so.1.0" }

  /// What the command line `python3 -I -B -u` sets. Deprecated, but a `PyConfig` cannot be filled in without the headers of
  /// the very version.
  private static let flags = [
    "Py_IsolatedFlag", "Py_IgnoreEnvironmentFlag", "Py_NoUserSiteDirectory", "Py_DontWriteBytecodeFlag",
    "Py_UnbufferedStdioFlag",
  ]

  /// Loads it and starts it as the command `program` would be with these flags.
  init(program: String, interpreter: String) throws(SystemError) {
    let name = EmbeddedPython.libraryName(interpreter: interpreter)
    guard let library = dlopen(name, RTLD_NOW | RTLD_GLOBAL) else {
      throw SystemError("load \(name): \(String(cString: dlerror()))", errno: 0)
    }
    self.library = library
    runText = unsafeBitCast(
      try EmbeddedPython.symbol("PyRun_SimpleString", library),
      to: (@convention(c) (UnsafePointer<CChar>) -> Int32).self)
    for flag in EmbeddedPython.flags {
      try EmbeddedPython.symbol(flag, library).assumingMemoryBound(to: Int32.self).pointee = 1
    }
    typealias SetName = @convention(c) (UnsafePointer<wchar_t>) -> Void
    typealias Initialize = @convention(c) (Int32) -> Void
    // It is kept by the interpreter for as long as that lives.
    let text = program.unicodeScalars.map { wchar_t($0.value) } + [0]
    let kept = UnsafeMutablePointer<wchar_t>.allocate(capacity: text.count)
    kept.initialize(from: text, count: text.count)
    unsafeBitCast(try EmbeddedPython.symbol("Py_SetProgramName", library), to: SetName.self)(kept)
    // With the signal handlers of the command.
    unsafeBitCast(try EmbeddedPython.symbol("Py_InitializeEx", library), to: Initialize.self)(1)
  }

  private static func symbol(
    _ name: String, _ library: UnsafeMutableRawPointer
  ) throws(SystemError) -> UnsafeMutableRawPointer {
    guard let symbol = dlsym(library, name) else { throw SystemError("the interpreter has no \(name)", errno: 0) }
    return symbol
  }

  /// Runs a program's text in `__main__`; false when it ended by an exception. A SystemExit ends the process.
  func run(_ text: String) -> Bool { runText(text) == 0 }

  /// What the interpreter has to know of a fork.
  enum ForkStep: String {
    case before = "PyOS_BeforeFork"
    case parent = "PyOS_AfterFork_Parent"
    case child = "PyOS_AfterFork_Child"
  }

  func note(_ step: ForkStep) throws(SystemError) {
    unsafeBitCast(try EmbeddedPython.symbol(step.rawValue, library), to: (@convention(c) () -> Void).self)()
  }
}
