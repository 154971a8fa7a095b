import CLinux
import Glibc
import Kernel
import WardenProtocol

/// What both processes of a cell execute before there is a job: `cordon-cell`, which lies beside the warden's own program.
/// Taken once, into a memory file that nobody can change or read; its processes are therefore not dumpable.
struct CellProgram {
  /// By number `CellDescriptors.program`.
  let descriptor: Descriptor
  let initExecution: Execution
  let jobExecution: Execution
  /// What the kernel calls a process that has not become the job. A job that knew it could pass for one that never
  /// ran, so it is drawn by lot; the job's own execve takes it away.
  let name: String

  private static let file = "cordon-cell"
  private static let longest = 1 << 20
  /// The kernel keeps 15 bytes of a name.
  private static let nameBytes = 15

  /// Before any other descriptor is opened: the number that the file gets has to be the lowest one.
  static func take() throws(Refusal) -> CellProgram {
    let fix = "install \(file) beside cordon-warden"
    return try requiring("program", fix: fix) { () throws(SystemError) in
      // Read first: its descriptor has to be closed again before the file in memory gets the lowest number.
      let content = try Descriptor.open(try path()).readAll(limit: longest)
      let descriptor = try Descriptor.sealedMemory(file, content, mode: mode)
      guard descriptor.raw == CellDescriptors.program else {
        throw SystemError("descriptors beyond the control socket were open at the start", errno: EBADF)
      }
      let name = drawName()
      return CellProgram(
        descriptor: descriptor, initExecution: execution("init", name), jobExecution: execution("job", name), name: name
      )
    }
  }

  /// Of a program: to be executed, never to be read.
  static let mode: mode_t = 0o111

  private static func execution(_ role: String, _ name: String) -> Execution {
    Execution(program: CellDescriptors.program, arguments: [role, name])
  }

  private static func path() throws(SystemError) -> String {
    var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
    let count = try SystemError.check(
      buffer.withUnsafeMutableBytes { readlink("/proc/self/exe", $0.baseAddress!, $0.count) }, "readlink /proc/self/exe"
    )
    let own = buffer[..<count]
    let directory = own[..<(own.lastIndex(of: UInt8(ascii: "/")) ?? own.startIndex)]
    return String(decoding: directory, as: UTF8.self) + "/" + file
  }

  /// Letters alone: the name stands between parentheses in a line.
  private static func drawName() -> String {
    String(
      decoding: (0..<nameBytes).map { _ in UInt8.random(in: UInt8(ascii: "a")...UInt8(ascii: "z")) }, as: UTF8.self)
  }
}
