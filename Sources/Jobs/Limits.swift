/// What one attempt may use. The database computes it at enqueue (policy defaults, the job's request, the
/// policy's ceiling) and stores it normalised in these units; the worker enforces exactly this.
public struct Limits: Codable, Equatable, Sendable {
  /// Wall-clock time from the first job instruction to SIGTERM, in milliseconds.
  public var wallMilliseconds: Int64
  /// Time between SIGTERM and killing the cell, in milliseconds.
  public var graceMilliseconds: Int64
  /// Memory of the whole cell including its tmpfs pages, in bytes; swap is off.
  public var memoryBytes: Int64
  /// Processor time per wall time, in thousandths of one processor.
  public var cpuMillis: Int64
  /// Processes and threads alive at once in the cell.
  public var pids: Int64
  /// Bytes in `/output`.
  public var outputBytes: Int64
  /// Files and directories in `/output`.
  public var outputFiles: Int64
  /// Bytes in `/tmp`.
  public var temporaryBytes: Int64
  /// Bytes kept of each of stdout and stderr; what comes after is counted and dropped.
  public var streamBytes: Int64
  /// Bytes the file at `CORDON_RESULT` may have.
  public var resultBytes: Int64

  enum CodingKeys: String, CodingKey {
    case wallMilliseconds = "wall_ms"
    case graceMilliseconds = "grace_ms"
    case memoryBytes = "memory_bytes"
    case cpuMillis = "cpu_millis"
    case pids
    case outputBytes = "output_bytes"
    case outputFiles = "output_files"
    case temporaryBytes = "tmp_bytes"
    case streamBytes = "stream_bytes"
    case resultBytes = "result_bytes"
  }

  public init(
    wallMilliseconds: Int64 = 300_000, graceMilliseconds: Int64 = 2_000, memoryBytes: Int64 = 256 << 20,
    cpuMillis: Int64 = 1_000, pids: Int64 = 64, outputBytes: Int64 = 64 << 20, outputFiles: Int64 = 1_024,
    temporaryBytes: Int64 = 16 << 20, streamBytes: Int64 = 1 << 20, resultBytes: Int64 = 256 << 10
  ) {
    self.wallMilliseconds = wallMilliseconds
    self.graceMilliseconds = graceMilliseconds
    self.memoryBytes = memoryBytes
    self.cpuMillis = cpuMillis
    self.pids = pids
    self.outputBytes = outputBytes
    self.outputFiles = outputFiles
    self.temporaryBytes = temporaryBytes
    self.streamBytes = streamBytes
    self.resultBytes = resultBytes
  }
}
