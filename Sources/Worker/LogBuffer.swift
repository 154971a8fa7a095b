import Sandbox

/// Output waiting to be written to the database, in order, neighbours of one stream joined.
///
/// A program that prints a byte at a time would otherwise cost a statement a byte. Memory is bounded by the
/// caps of the two streams, because only kept bytes arrive here.
struct LogBuffer {
  /// Largest piece written at once, in bytes.
  static let chunkLimit = 64 << 10

  private(set) var chunks: [OutputChunk] = []

  var isEmpty: Bool { chunks.isEmpty }

  mutating func append(_ chunk: OutputChunk) {
    guard let last = chunks.last, last.stream == chunk.stream,
      last.bytes.count + chunk.bytes.count <= Self.chunkLimit
    else {
      chunks.append(chunk)
      return
    }
    chunks[chunks.count - 1].bytes += chunk.bytes
  }

  /// The oldest piece, still counted as waiting until `removeFirst`.
  var first: OutputChunk? { chunks.first }

  mutating func removeFirst() { chunks.removeFirst() }
}
