import CLinux
import Glibc
import Jobs
import Kernel

@testable import Sandbox

/// The trees a job leaves in `/output` and `/result`, with entries that change while they are collected.
enum OutputTrees: Fuzzer {
  private static let secret = Array("the host's secret".utf8)

  static var seeds: [[UInt8]] {
    [
      // Limits, then entries: kind, length of the name, name, and what the kind wants.
      [20, 20, 0, 1, 0x61, 5, 1, 2, 3, 4, 5, 1, 1, 0x62, 0, 3, 0x63, 0xFF, 0x64, 1, 7],
      [20, 20, 2, 1, 0x61, 3, 1, 0x62, 4, 1, 0x63, 0, 1, 0x64, 2, 8, 8, 5, 1, 0x65, 0],
      [20, 20, 0, 1, 0x61, 2, 1, 1, 7, 1, 0x62, 0, 0, 1, 0x63, 4, 9, 9, 9, 9, 7, 0, 0, 0],
      [3, 2, 6, 1, 0x61, 200, 0, 1, 0x62, 1, 1, 0, 1, 0x63, 1, 1, 8, 0, 2, 0x7B, 0x7D],
      [20, 20, 8, 1, 4, 0x74, 0x72, 0x75, 0x65],
    ]
  }

  static func run(_ bytes: [UInt8]) {
    do { try check(bytes) } catch { fatalError("\(error)") }
  }

  private static func check(_ bytes: [UInt8]) throws {
    let place = try Place()
    defer { place.remove() }
    var choices = Choices(bytes)
    let limits = Limits(
      outputBytes: Int64(choices.byte()) * 64, outputFiles: Int64(choices.byte() % 32), resultBytes: 256)
    let swaps = place.grow(&choices)
    // The entry that was looked at is another one by the time it is opened.
    var walk = OutputWalk(
      limits: limits, beforeOpening: { path in if let kind = swaps[path] { place.swap(path, kind) } })
    try walk.collect(place.output, into: { place.target })

    expect(Int64(walk.artifacts.count) <= limits.outputFiles, "no more files than the limit")
    expect(walk.bytes <= limits.outputBytes, "no more bytes than the limit")
    expect(walk.bytes == walk.artifacts.reduce(0) { $0 + $1.bytes }, "the bytes are those of the files")
    expect(
      Set(walk.artifacts.map { Array($0.path.utf8) }).count == walk.artifacts.count, "no file is listed twice")
    expect(walk.problem == nil || walk.artifacts.isEmpty, "half a tree is no output")
    for artifact in walk.artifacts {
      let path = EscapedNames.unescaped(Array(artifact.path.utf8))
      let file = try place.target.open(beneath: path, O_RDONLY | O_NOFOLLOW)
      let status = try file.status()
      let content = try file.readAll(limit: 1 << 20)
      expect(status.isPlainFile && status.st_nlink == 1, "what is published is a plain file")
      expect([0o644, 0o755].contains(status.st_mode & 0o7777), "what is published has no mode of the job's")
      expect(Int64(content.count) == artifact.bytes, "what is published has the bytes that are listed")
      expect(sha256(content) == artifact.sha256, "what is published has the digest that is listed")
      expect(content != secret, "nothing of the host's is published")
    }

    let result = ResultFile.read(beneath: place.result, maximumBytes: limits.resultBytes)
    expect(result.value == nil || result.problem == nil, "a result is a value or a problem")
    if result.value != nil {
      let status = try place.result.status(of: ResultFile.name)
      expect(status.isPlainFile && status.st_nlink == 1 && status.st_size <= 256, "a result is a small plain file")
    }
  }
}

/// Directories for one tree and its copy, beside a file that must never be published.
private final class Place {
  let output: Descriptor
  let result: Descriptor
  let target: Descriptor
  private let parent: Descriptor
  private let root: Descriptor
  private let name = randomName()

  init() throws {
    parent = try Descriptor.directory("/dev/shm")
    root = try parent.makeDirectory(name, mode: 0o700)
    output = try root.makeDirectory(Array("output".utf8), mode: 0o755)
    result = try root.makeDirectory(Array("result".utf8), mode: 0o755)
    target = try root.makeDirectory(Array("target".utf8), mode: 0o755)
    write(root, "secret", Array("the host's secret".utf8))
  }

  func remove() { try? parent.removeTree(name) }

  /// Makes the entries and returns which of them are to be swapped for what.
  func grow(_ choices: inout Choices) -> [FileName: UInt8] {
    var directories: [(Descriptor, FileName)] = [(output, [])]
    var files: [String] = []
    var swaps: [FileName: UInt8] = [:]
    for _ in 0..<64 where !choices.isEmpty {
      let kind = choices.byte() % 9
      let (directory, path) = directories[directories.count - 1]
      let bytes = choices.bytes(Int(choices.byte() % 24)).filter { $0 != 0 && $0 != UInt8(ascii: "/") }
      let name = String(decoding: bytes, as: UTF8.self)
      let whole = path.isEmpty ? Array(name.utf8) : path + [UInt8(ascii: "/")] + Array(name.utf8)
      if name.isEmpty, kind < 7 { continue }
      switch kind {
      case 0: write(directory, name, choices.bytes(Int(choices.byte())), at: &files)
      case 1:
        guard (try? directory.makeDirectory(Array(name.utf8), mode: 0o755)) != nil,
          let made = try? directory.directory(Array(name.utf8))
        else { continue }
        directories.append((made, whole))
      case 2: symlinkat(choices.byte() % 2 == 0 ? "../secret" : "/etc/passwd", directory.raw, name)
      case 3: mkfifoat(directory.raw, name, 0o666)
      case 4: mknodat(directory.raw, name, S_IFSOCK | 0o666, 0)
      case 5: if let file = files.last { linkat(directory.raw, file, directory.raw, name, 0) }
      case 6:
        if let file = try? Descriptor.open(name, O_WRONLY | O_CREAT, mode: 0o4777, at: directory) {
          ftruncate(file.raw, Int(choices.byte()) << 20)
        }
      case 7:
        if directories.count > 1, choices.byte() % 4 == 0 { directories.removeLast() }
        if !whole.isEmpty { swaps[whole] = choices.byte() }
      default: growResult(&choices)
      }
    }
    return swaps
  }

  private func growResult(_ choices: inout Choices) {
    switch choices.byte() % 4 {
    case 0: symlinkat("../secret", result.raw, "result.json")
    case 1: mkfifoat(result.raw, "result.json", 0o666)
    default: write(result, "result.json", choices.bytes(Int(choices.byte())))
    }
  }

  func swap(_ path: FileName, _ kind: UInt8) {
    guard let name = String(validating: path, as: UTF8.self) else { return }
    try? output.removeTree(path)
    switch kind % 5 {
    case 0: symlinkat("../secret", output.raw, name)
    case 1: mkfifoat(output.raw, name, 0o666)
    case 2: mkdirat(output.raw, name, 0o755)
    case 3: linkat(root.raw, "secret", output.raw, name, 0)
    default: break
    }
  }

  private func write(_ directory: Descriptor, _ name: String, _ bytes: [UInt8], at files: inout [String]) {
    write(directory, name, bytes)
    files.append(name)
  }

  private func write(_ directory: Descriptor, _ name: String, _ bytes: [UInt8]) {
    // Never through a link: that would be this fuzzer writing to the host.
    let flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK
    guard let file = try? Descriptor.open(name, flags, mode: 0o644, at: directory) else { return }
    try? file.writeAll(bytes)
  }
}
