import WardenProtocol

/// What a process that waits is to execute, in bytes that need no decoding: how many arguments and how many variables, each
/// as 4 bytes, the lowest first; then all of them, each ended by a zero byte. With it travel the job's 0, 1 and 2. Read by
/// `cordon-cell` and by `PythonProgram`.
struct JobCall {
  var arguments: [String]
  var environment: [CellOrder.Variable]

  /// The strings hold no zero byte: `CellOrder.problem` has seen to that.
  var bytes: [UInt8] {
    let size = arguments.reduce(8) { $0 + $1.utf8.count + 1 }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(environment.reduce(size) { $0 + $1.name.utf8.count + $1.value.utf8.count + 2 })
    for count in [arguments.count, environment.count] {
      withUnsafeBytes(of: UInt32(count).littleEndian) { bytes += $0 }
    }
    for argument in arguments {
      bytes += argument.utf8
      bytes.append(0)
    }
    for variable in environment {
      bytes += variable.name.utf8
      bytes.append(UInt8(ascii: "="))
      bytes += variable.value.utf8
      bytes.append(0)
    }
    return bytes
  }
}
