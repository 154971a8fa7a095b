/// What one of the job's streams has produced: how much, how much of it is kept, and what waits to be handed on.
/// A value; the sandbox's thread reads the pipe and asks it what to do with the bytes.
struct StreamCapture {
  /// Most bytes one chunk carries.
  static let chunkBytes = 64 << 10
  /// Least time between two chunks that are not full. A job that writes single bytes would otherwise cost one
  /// array, one wake-up and one log row a byte.
  static let interval = Duration.milliseconds(20)

  /// Most bytes that are kept.
  let cap: Int64
  /// Every byte the job wrote.
  private(set) var bytes: Int64 = 0
  private var pending: [UInt8] = []
  private var notBefore: ContinuousClock.Instant?

  init(cap: Int64) {
    self.cap = cap
  }

  /// When bytes wait: the moment from which they may be handed on.
  var due: ContinuousClock.Instant? {
    pending.isEmpty ? nil : notBefore
  }

  /// Counts the bytes, keeps what the cap allows, and returns the chunks that are to be handed on now.
  mutating func take(_ read: ArraySlice<UInt8>, now: ContinuousClock.Instant) -> [[UInt8]] {
    let room = max(0, cap - bytes)
    bytes += Int64(read.count)
    pending.append(contentsOf: read.prefix(Int(min(room, Int64(read.count)))))
    var chunks: [[UInt8]] = []
    while pending.count >= Self.chunkBytes {
      chunks.append(Array(pending.prefix(Self.chunkBytes)))
      pending.removeFirst(Self.chunkBytes)
      notBefore = now + Self.interval
    }
    if notBefore.map({ $0 <= now }) ?? true, let rest = flush(now: now) { chunks.append(rest) }
    return chunks
  }

  /// Everything that waits; nil when nothing does.
  mutating func flush(now: ContinuousClock.Instant) -> [UInt8]? {
    guard !pending.isEmpty else { return nil }
    defer { pending = [] }
    notBefore = now + Self.interval
    return pending
  }
}
