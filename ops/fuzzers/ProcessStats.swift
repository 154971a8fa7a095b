import Kernel

/// /proc/PID/stat, in which a process chooses its own name.
enum ProcessStats: Fuzzer {
  static var seeds: [[UInt8]] {
    [Array("bash".utf8), Array("a) b) (c".utf8), Array(") R 1 1 1 1 1".utf8), Array("\u{600}".utf8), [0xE2, 0x80]]
  }

  static func run(_ bytes: [UInt8]) {
    _ = ProcessIdentity.startTicks(stat: String(decoding: bytes, as: UTF8.self))
    // The kernel keeps 15 bytes of a name, none of them NUL.
    let name = bytes.filter { $0 != 0 }.prefix(15)
    let fields = " S 1 7 7 0 -1 4194560 120 0 0 0 1 2 0 0 20 0 1 0 4242 9 8 18446744073709551615\n"
    let stat = String(decoding: Array("7 (".utf8) + name + Array(")".utf8) + Array(fields.utf8), as: UTF8.self)
    expect(ProcessIdentity.startTicks(stat: stat) == 4_242, "no name hides when its process started: \(stat)")
    let found = ProcessIdentity.name(stat: stat).map { Array($0.utf8) }
    expect(
      found == Array(String(decoding: name, as: UTF8.self).utf8),
      "a name is what stands between the outermost parentheses")
  }
}
