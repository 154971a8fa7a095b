import BenchReport
import Glibc
import Kernel

/// What /proc and the cgroup hierarchies say. A process may end while it is looked at: nil, or nothing, then.
enum ProcFile {
  static func text(_ path: String) -> String? {
    guard let bytes = try? Descriptor.open(path).readAll(limit: 16 << 20) else { return nil }
    return String(decoding: bytes, as: UTF8.self)
  }

  static func names(in path: String) -> [String]? {
    guard let directory = try? Descriptor.open(path, O_RDONLY | O_DIRECTORY) else { return nil }
    return try? directory.entries()
  }

  /// The entries that are numbers: processes, threads, descriptors.
  static func numbers(in path: String) throws -> Set<Int32> {
    guard let names = names(in: path) else { throw BenchError("\(path) cannot be listed") }
    return Set(names.compactMap { Int32($0) })
  }

  static func link(_ path: String) -> String? {
    var buffer = [UInt8](repeating: 0, count: 256)
    let count = buffer.withUnsafeMutableBytes { bytes in
      bytes.withMemoryRebound(to: CChar.self) { readlink(path, $0.baseAddress!, $0.count) }
    }
    return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
  }

  /// The number behind `key` in lines such as `key: 12 kB` or `key 12`.
  static func value(_ key: String, in text: String) -> Int? {
    for line in text.split(separator: "\n") where line.hasPrefix(key) {
      let words = line.split { $0 == " " || $0 == "\t" || $0 == ":" }
      if words.count > 1, words[0] == key { return Int(words[1]) }
    }
    return nil
  }
}

/// A process as /proc/PID/stat shows it.
struct ProcessLine {
  let parent: Int32
  /// Clock ticks of the process and of its children that were waited for.
  let ticks: Int

  init?(_ process: Int32) {
    guard let stat = ProcFile.text("/proc/\(process)/stat")?.utf8,
      let end = stat.lastIndex(of: UInt8(ascii: ")"))
    else { return nil }
    // Counting starts behind the name, which may hold spaces; by bytes, because the name's end may combine with the
    // parenthesis. State is field 3.
    let fields = stat[stat.index(after: end)...].split(separator: UInt8(ascii: " ")).map { Substring($0) }
    guard fields.count > 14, let parent = Int32(fields[1]) else { return nil }
    self.parent = parent
    ticks = (11...14).reduce(0) { $0 + (Int(fields[$1]) ?? 0) }
  }
}

/// All processes of the machine at one moment.
struct ProcessTable {
  let processes: [Int32: ProcessLine]

  init() throws {
    var found: [Int32: ProcessLine] = [:]
    for process in try ProcFile.numbers(in: "/proc") { found[process] = ProcessLine(process) }
    processes = found
  }

  /// Without the kernel's own threads, which are children of process 2.
  var ofUsers: Set<Int32> { Set(processes.filter { $0.key != 2 && $0.value.parent != 2 }.keys) }

  /// The process and everything beneath it.
  func tree(of root: Int32) -> Set<Int32> {
    var children: [Int32: [Int32]] = [:]
    for (process, line) in processes { children[line.parent, default: []].append(process) }
    var found: Set<Int32> = []
    var next = processes[root] == nil ? [] : [root]
    while let process = next.popLast() {
      found.insert(process)
      next += children[process] ?? []
    }
    return found
  }
}
