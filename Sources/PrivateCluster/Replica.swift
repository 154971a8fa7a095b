extension PrivateCluster {
  /// Makes a streaming replica of this cluster in a directory of its own, in place of whatever cluster was there, and
  /// returns once it answers. It follows this cluster until it is promoted.
  ///
  /// - Parameter settings: further `name=value` that the replica is started with.
  public func makeReplica(directory: String, settings: [String] = []) async throws -> PrivateCluster {
    let source = socketDirectory
    try await blocking { try DataDirectory(directory).copy(from: source) }
    return try await Self.start(directory: directory, settings: settings)
  }

  /// Makes a replica a primary of its own; returns once it takes writes.
  public func promote() async throws {
    let directory = directory
    try await blocking { try DataDirectory(directory).promote() }
  }
}
