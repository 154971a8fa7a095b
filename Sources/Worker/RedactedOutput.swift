import Credentials
import Sandbox

/// What a job prints, without the secrets that were used for it. Two streams, each held back by as much as a secret may be long.
struct RedactedOutput {
  private var streams: [String: RedactedStream] = [:]
  private var generation = 0

  /// - Parameter search: as of now; what was rotated meanwhile is looked for from here on. Nil where there is nothing to look for yet.
  mutating func push(_ chunk: OutputChunk, _ search: AttemptCredentials.Search?) -> [OutputChunk] {
    guard let search else { return [chunk] }
    var ready: [OutputChunk] = []
    if search.generation != generation {
      // Not let go: a secret that is looked for still may lie across this moment.
      for name in streams.keys.sorted() {
        let held = streams[name]!.handOver()
        streams[name] = search.redactor.stream()
        let bytes = streams[name]!.push(held)
        if !bytes.isEmpty { ready.append(OutputChunk(stream: name, bytes: bytes)) }
      }
      generation = search.generation
    }
    let bytes = streams[chunk.stream, default: search.redactor.stream()].push(chunk.bytes)
    if !bytes.isEmpty { ready.append(OutputChunk(stream: chunk.stream, bytes: bytes)) }
    return ready
  }

  /// What is still held back.
  mutating func finish() -> [OutputChunk] {
    var ready: [OutputChunk] = []
    for name in streams.keys.sorted() {
      let bytes = streams[name]!.finish()
      if !bytes.isEmpty { ready.append(OutputChunk(stream: name, bytes: bytes)) }
    }
    streams = [:]
    return ready
  }
}
