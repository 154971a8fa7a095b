import FaultHistory
import Foundation

/// What producers were told, line by line in a file of their own: the database is not asked to vouch for itself.
final class Ledger: @unchecked Sendable {
  private let lock = NSLock()
  private let file: FileHandle
  private let path: String

  init(path: String) throws {
    self.path = path
    guard FileManager.default.createFile(atPath: path, contents: nil), let file = FileHandle(forWritingAtPath: path)
    else { throw FaultError("cannot write \(path)") }
    self.file = file
  }

  func note(_ acknowledged: History.Acknowledged) throws {
    var line = try JSONEncoder().encode(acknowledged)
    line.append(0x0A)
    try lock.withLock { try file.write(contentsOf: line) }
  }

  /// A later line about a job says more than an earlier one.
  func read() throws -> [History.Acknowledged] {
    let lines = try Data(contentsOf: URL(fileURLWithPath: path)).split(separator: 0x0A)
    var latest: [String: History.Acknowledged] = [:]
    for line in lines {
      let told = try JSONDecoder().decode(History.Acknowledged.self, from: Data(line))
      latest[told.job] = told
    }
    return latest.values.sorted { $0.number < $1.number }
  }
}
