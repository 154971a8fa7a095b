import Foundation
import Synchronization

extension Town {
  /// The name server, at which every name of the town is known. All that a test adds is known from then on.
  public func dns() async throws -> Names {
    try await once("names") { [self] in
      let names = try Names(directory: directory)
      let server = namespace.address(Street.names)
      // It opens its record when it is bound, and whoever asks from then on is answered.
      let manager = FileManager.default
      try await serve("names", Self.script("names", [server, names.record.path, names.table.path])) {
        manager.fileExists(atPath: names.record.path)
      }
      return names
    }
  }

  /// An authoritative name server whose answers the test decides.
  public final class Names: Sendable {
    /// What a query is answered.
    public enum Answer: Sendable {
      /// Those of the type that was asked for, IPv4 for A and IPv6 for AAAA; where there are none of it, none.
      case addresses([String])
      /// NXDOMAIN, which every name is answered that nobody set.
      case nonexistent
      case silence
    }

    public struct Query: Sendable, Decodable {
      /// As it was asked, without the dot at the end.
      public let name: String
      /// `A`, `AAAA`, or another type's number.
      public let type: String
    }

    /// As names.py reads it.
    private struct Entry: Encodable {
      var generation: Int
      var steps: [Step]

      struct Step: Encodable {
        var kind: String
        var addresses: [String]
      }
    }

    let record: URL
    let table: URL
    private let entries = Mutex<[String: Entry]>([:])

    init(directory: URL) throws {
      record = directory.appending(path: "names.record")
      table = directory.appending(path: "names.table")
      try Data("{}".utf8).write(to: table)
    }

    /// From now on the first query for this name is answered by the first of these, the second by the second, and all
    /// after the last one by the last. Queries for A and for AAAA are counted apart, since resolvers ask for both.
    public func set(_ name: String, to answers: [Answer]) throws {
      precondition(!answers.isEmpty, "a name has an answer, if only silence")
      let steps = answers.map { answer in
        switch answer {
        case .addresses(let addresses): Entry.Step(kind: "addresses", addresses: addresses)
        case .nonexistent: Entry.Step(kind: "nonexistent", addresses: [])
        case .silence: Entry.Step(kind: "silence", addresses: [])
        }
      }
      try entries.withLock { entries in
        let name = name.lowercased()
        entries[name] = Entry(generation: (entries[name]?.generation ?? 0) + 1, steps: steps)
        try JSONEncoder().encode(entries).write(to: table, options: .atomic)
      }
    }

    /// Every query so far, in order.
    public func queries() throws -> [Query] { try Town.record(record) }

    /// How often a name was asked for, in whatever case and for whatever type.
    public func count(of name: String) throws -> Int {
      try queries().count { $0.name.lowercased() == name.lowercased() }
    }
  }
}
