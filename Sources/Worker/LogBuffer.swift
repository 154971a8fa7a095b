import Sandbox

/// Output waiting to be written to the database, in order, neighbours of one stream joined.
///
/// A program that prints a byte at a time would otherwise cost a statement a byte. Memory is bounded by the
/// caps of the two streams, because only kept bytes arrive here.
///
/// A piece that is being written is set apart: what arrives meanwhile must not be joined to it, or it would be
/// taken for written with it.
struct LogBuffer {
  /// Largest piece written at once, in bytes.
  static let chunkLimit = 64 << 10

  private(set) var waiting: [OutputChunk] = []
  private(set) var underWay: OutputChunk?

  var isEmpty: Bool { waiting.isEmpty && underWay == nil }

  mutating func append(_ chunk: OutputChunk) {
    guard let last = waiting.last, last.stream == chunk.stream,
      last.bytes.count + chunk.bytes.count <= Self.chunkLimit
    else {
      waiting.append(chunk)
      return
    }
    waiting[waiting.count - 1].bytes += chunk.bytes
  }

  /// The piece to write next: the one whose writing failed, else the oldest. Nil when nothing waits.
  mutating func take() -> OutputChunk? {
    if underWay == nil, !waiting.isEmpty { underWay = waiting.removeFirst() }
    return underWay
  }

  /// The piece that was taken is stored.
  mutating func stored() { underWay = nil }
}
