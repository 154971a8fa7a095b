import Credentials
import Sandbox

/// What a job prints, without the secrets that were used for it. Two streams, each held back by as much as a secret may be long.
struct RedactedOutput {
  private var redactor: Redactor
  private var streams: [String: RedactedStream] = [:]
  private var generation: Int

  /// - Throws: `CredentialError` where there are more secrets than can be looked for; then nothing may be stored.
  init(_ confidential: AttemptCredentials.Confidential) throws(CredentialError) {
    redactor = try Redactor(confidential.secrets)
    generation = confidential.generation
  }

  /// - Parameter confidential: as of now; what was rotated meanwhile is looked for from here on.
  mutating func push(
    _ chunk: OutputChunk, _ confidential: AttemptCredentials.Confidential
  ) throws(CredentialError) -> [OutputChunk] {
    var ready: [OutputChunk] = []
    if confidential.generation != generation {
      ready = finish()
      redactor = try Redactor(confidential.secrets)
      generation = confidential.generation
    }
    let bytes = streams[chunk.stream, default: redactor.stream()].push(chunk.bytes)
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
