import BenchReport
import Foundation
import Synchronization

// The other processes of a measurement. Who starts one keeps the write end of its input; when that closes, by will or because the bench
// is gone, the child ends. So none outlives the bench, however that ends.

/// A process of this program, with what it serves.
final class Child: Sendable {
  /// In the order in which the child printed them.
  let ports: [Int]
  private let process: Process
  private let input: Pipe

  /// Returns when it listens.
  init(_ arguments: [String]) throws {
    process = Process()
    input = Pipe()
    let output = Pipe()
    process.executableURL = URL(
      fileURLWithPath: try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
    process.arguments = arguments
    process.standardInput = input
    process.standardOutput = output
    try process.run()
    var said = Data()
    while !said.contains(UInt8(ascii: "\n")) {
      let more = output.fileHandleForReading.availableData
      guard !more.isEmpty else { throw BenchError("\(arguments[0]) ended before it listened") }
      said += more
    }
    ports = String(decoding: said, as: UTF8.self).split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
  }

  func end() {
    try? input.fileHandleForWriting.close()
    process.waitUntilExit()
  }

  /// In the child: says where it listens, and returns when nobody wants it any more.
  static func serve(at ports: Int...) async {
    FileHandle.standardOutput.write(Data((ports.map(String.init).joined(separator: " ") + "\n").utf8))
    await withCheckedContinuation { continuation in
      // Not on a thread that tasks run on.
      Thread.detachNewThread {
        _ = try? FileHandle.standardInput.readToEnd()
        continuation.resume()
      }
    }
  }
}
