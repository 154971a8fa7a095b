// A job never holds a secret: the broker puts it into requests outside. But a server may send back what it was sent, in an
// error page or a debug field, and the job may print that. So what leaves a job - its output, its result, the names of its
// files - is read once more for the secrets that its requests carried. This is the second wall, not the first: whoever
// wants to carry a secret out in a spelling of his own can, where a server gives it to him.
//
// The program is told nothing: a job that has no secret learns by what is missing only what it already knew.

/// Replaces secrets by `[redacted:name]`, in every common spelling.
public struct Redactor: Sendable {
  let automaton: SecretAutomaton
  let markers: [[UInt8]]

  /// - Parameter secrets: with the names of their credentials, in the order of which equal ones are named.
  /// - Throws: `CredentialError` where they are more than bounded memory can look for.
  public init(_ secrets: [(name: String, secret: Secret)]) throws(CredentialError) {
    var patterns: [(name: Int, bytes: [UInt8])] = []
    for (index, entry) in secrets.enumerated() {
      patterns += entry.secret.withBytes { SecretEncodings.all(of: Array($0)) }.map { (index, $0) }
    }
    automaton = try SecretAutomaton(patterns)
    markers = secrets.map { Array("[redacted:\($0.name)]".utf8) }
  }

  /// A stream's own state, from its beginning.
  public func stream() -> RedactedStream { RedactedStream(self) }

  public func redact(_ bytes: some Collection<UInt8>) -> [UInt8] {
    var stream = stream()
    var output = stream.push(bytes)
    output += stream.finish()
    return output
  }

  public func redact(_ text: String) -> String { String(decoding: redact(Array(text.utf8)), as: UTF8.self) }
}

/// One stream of bytes on its way through a `Redactor`, in chunks of any size; the result does not depend on them.
///
/// Bytes are held back as long as they may be the beginning of a secret: never more than the longest spelling has, less one.
/// Secrets that overlap are replaced by one marker, of the one that begins first.
public struct RedactedStream: Sendable {
  private let redactor: Redactor
  private var state = 0
  /// Read and not yet let go.
  private var held: [UInt8] = []
  /// Where in the stream `held` begins.
  private var base = 0
  /// What is known to be secret, in order and apart from each other, and not yet replaced.
  private var spans: [Span] = []
  /// Up to here everything is replaced by a marker that is written.
  private var covered = 0
  /// Looks at states so far: what the work is measured by.
  private(set) var steps = 0

  private struct Span: Sendable {
    var start: Int
    var end: Int
    var name: Int
  }

  init(_ redactor: Redactor) {
    self.redactor = redactor
  }

  /// How many bytes are held back.
  public var heldBack: Int { held.count }

  /// What may leave, after the next bytes came.
  public mutating func push(_ bytes: some Collection<UInt8>) -> [UInt8] {
    var output: [UInt8] = []
    let place = base + held.count
    let known = held.count
    held += bytes
    // Copies of its own, since the automaton is told the state meanwhile.
    var marked = (spans: spans, covered: covered)
    redactor.automaton.scan(held[known...], from: &state, steps: &steps) { match in
      let end = place + match.end
      Self.cover(Span(start: end - match.length, end: end, name: match.name), in: &marked)
    }
    (spans, covered) = marked
    release(before: base + held.count - redactor.automaton.held(state), into: &output)
    return output
  }

  /// The rest, when the stream is over.
  public mutating func finish() -> [UInt8] {
    var output: [UInt8] = []
    release(before: base + held.count, into: &output)
    state = 0
    return output
  }

  /// What is held back, as it was read and without what a marker stands for already: for the stream of a redactor that looks for other
  /// secrets from here on. This stream begins anew.
  public mutating func handOver() -> [UInt8] {
    let left = Array(held.dropFirst(max(0, covered - base)))
    base += held.count
    (held, spans, state) = ([], [], 0)
    return left
  }

  /// Adds what was found to what it overlaps. It ends last of all, so it only ever swallows from the end.
  private static func cover(_ span: Span, in marked: inout (spans: [Span], covered: Int)) {
    if span.start < marked.covered {
      // Part of what is replaced already; no second marker.
      marked.spans.removeAll()
      marked.covered = span.end
      return
    }
    var joined = span
    while let last = marked.spans.last, last.end > joined.start {
      if last.start < joined.start {
        joined.start = last.start
        joined.name = last.name
      }
      marked.spans.removeLast()
    }
    marked.spans.append(joined)
  }

  /// Lets go what no pattern can begin before any more.
  private mutating func release(before limit: Int, into output: inout [UInt8]) {
    var position = base
    for span in spans where span.start < limit {
      appendHeld(from: max(position, covered), to: span.start, to: &output)
      output += redactor.markers[span.name]
      covered = span.end
      position = span.start
    }
    spans.removeAll { $0.start < limit }
    appendHeld(from: max(position, covered), to: limit, to: &output)
    held.removeFirst(limit - base)
    base = limit
  }

  private func appendHeld(from start: Int, to end: Int, to output: inout [UInt8]) {
    if start < end { output += held[(start - base)..<(end - base)] }
  }
}
