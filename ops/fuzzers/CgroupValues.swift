@testable import Kernel

/// Files of `key value` lines in cgroup directories.
enum CgroupValues: Fuzzer {
  static var seeds: [[UInt8]] {
    ["low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\n", "populated 0\nfrozen 0\n", "oom_kill 99999999999999999999\n"].map {
      Array($0.utf8)
    }
  }

  static func run(_ bytes: [UInt8]) {
    let text = String(decoding: bytes, as: UTF8.self)
    for key in ["oom_kill", "populated", "max", ""] {
      guard let value = CgroupFile.value(key, in: text) else { continue }
      expect(!key.isEmpty, "no value has no name")
      expect(
        text.utf8.split(separator: UInt8(ascii: "\n")).contains { line in
          let words = line.split(separator: UInt8(ascii: " ")).map { Array($0) }
          return words.count == 2 && words[0] == Array(key.utf8)
            && UInt64(String(decoding: words[1], as: UTF8.self)) == value
        }, "a value stands behind its key")
    }
    // What the kernel appends to whatever came before is found.
    if CgroupFile.value("oom_kill", in: text) == nil, !text.utf8.contains(UInt8(ascii: "k")) {
      expect(CgroupFile.value("oom_kill", in: text + "\noom_kill 17\n") == 17, "a line is found wherever it stands")
    }
  }
}
