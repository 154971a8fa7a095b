import ArgumentParser
import Foundation
import Jobs
import Store

/// The options that describe a job; shared by `run` and `enqueue`.
struct SpecificationOptions: ParsableArguments {
  @Option(help: "exec, python3 or bash. Default: by the ending of FILE (.py, .sh), or exec after `--`.")
  var runtime: String?

  @Option(name: .customLong("code"), help: "The program as text, instead of FILE.")
  var inlineCode: String?

  @Option(
    name: .customLong("input"), help: ArgumentHelp("A read-only file in the job's /input.", valueName: "NAME=PATH"))
  var inputs: [String] = []

  @Option(
    name: .customLong("artifact"),
    help: ArgumentHelp("A file that another job published, in /input.", valueName: "NAME=JOB/PATH"))
  var artifacts: [String] = []

  @Option(
    name: .customLong("result"), help: ArgumentHelp("Another job's result, in /input.", valueName: "NAME=JOB"))
  var results: [String] = []

  @Option(help: "Start only when this job is over; repeat for more.")
  var after: [String] = []

  @Option(help: "What to do when a job given with --after does not succeed: cancel or run. Default: cancel.")
  var onFailure: String?

  @Option(name: .customLong("env"), help: ArgumentHelp("An environment variable.", valueName: "NAME=VALUE"))
  var environment: [String] = []

  @Option(name: .customLong("param"), help: ArgumentHelp("A parameter (JSON, else text).", valueName: "NAME=VALUE"))
  var parameters: [String] = []

  @Option(name: .customLong("label"), help: ArgumentHelp("A label kept with the job.", valueName: "NAME=VALUE"))
  var labels: [String] = []

  @Option(
    name: .customLong("grant"),
    help: ArgumentHelp("A destination of the policy's that the job may reach; repeat for more.", valueName: "NAME"))
  var grants: [String] = []

  @Option(
    name: .customLong("fetch"),
    help: ArgumentHelp(
      "A locked list of packages (pip, with hashes), fetched by a grant before the job runs into its /input.",
      valueName: "GRANT=FILE"))
  var fetch: String?

  @Option(help: ArgumentHelp("The person that this agent acts for, who lets it.", valueName: "ROLE"))
  var onBehalfOf: String?

  @Option(
    name: .customLong("scope"),
    help: ArgumentHelp("What it acts for that person for; repeat for more.", valueName: "SCOPE"))
  var scopes: [String] = []

  @Option(help: "A file given to the job as its standard input ('-' for ours).")
  var stdin: String?

  @Option(help: "Wall-clock limit, such as 500ms, 30s, 5m, 2h.")
  var timeout: String?

  @Option(help: "Memory limit, such as 256MiB.")
  var memory: String?

  @Option(help: "Processors, such as 0.5 or 2.")
  var cpus: String?

  @Option(help: "Processes and threads at once.")
  var pids: Int?

  @Option(name: .customLong("output-limit"), help: "Bytes in /output, such as 64MiB.")
  var outputLimit: String?

  @Option(help: "The queue.")
  var queue = "default"

  @Option(help: "0 (first) to 9 (last).")
  var priority = 4

  @Option(help: "Try up to this many times in all. Default: once.")
  var attempts: Int?

  @Option(help: "Wait before the second attempt, such as 10s; then twice as long, and so on, up to an hour.")
  var backoff: String?

  @Option(help: "Jobs of one lane of a tenant share a limit, where an operator set one.")
  var lane: String?

  @Option(help: "Idempotency key: the same key and the same job give the first job's id again.")
  var key: String?

  @Argument(
    parsing: .captureForPassthrough,
    help: ArgumentHelp(
      "FILE and the arguments of its program, or `--` and a command.", valueName: "FILE ARGS… | -- ARGV…"))
  var command: [String] = []

  /// Largest program that travels inside the specification; a longer one becomes a blob. The database caps a
  /// specification at 1 MiB.
  static let inlineLimit = 256 << 10
  /// Largest program or input (`cordon.put_blob`).
  static let blobLimit = 64 << 20

  /// The jobs of --after.
  func parents() throws -> [JobID] { try after.map { try jobID($0) } }

  /// Everything from the first word that is no option of ours belongs to the job, so a mistyped option and a late
  /// `--help` end up there, too.
  func rejectStrayOption(of type: any ParsableCommand.Type) throws {
    guard let first = command.first, first.hasPrefix("-"), first != "--" else { return }
    if ["-h", "--help"].contains(first) { throw CleanExit.helpRequest(type) }
    throw Failure(.usage, "unknown option '\(first)'; see cordon \(type._commandName) --help")
  }

  /// Stores what must be a blob and returns the specification as JSON text.
  func specification(store: Store) async throws -> String {
    var members: [String: JSONValue] = [:]
    try await addProgram(to: &members, store: store)
    var sources: [String: JSONValue] = [:]
    for (name, path) in try pairs(inputs, option: "--input", form: "NAME=PATH") {
      let bytes = try readFile(path, field: "--input \(name)")
      sources[name] = .object(["blob": .string(try await store.putBlob(bytes).description)])
    }
    for (option, member, given) in [("--artifact", "artifact", artifacts), ("--result", "result", results)] {
      for (name, made) in try pairs(given, option: option, form: "NAME=JOB") {
        guard sources.updateValue(.object([member: .string(made)]), forKey: name) == nil else {
          throw Failure(.usage, "\(option): '\(name)' is given twice")
        }
      }
    }
    if !sources.isEmpty { members["inputs"] = .object(sources) }
    try addText(environment, option: "--env", as: "env", to: &members)
    try addText(labels, option: "--label", as: "labels", to: &members)
    var grants = grants
    if let fetch {
      guard let (grant, path) = try pairs([fetch], option: "--fetch", form: "GRANT=FILE").first else { return "" }
      members["fetch"] = .object([
        "grant": .string(grant), "pip": .string(try text(readFile(path, field: "--fetch"), field: "--fetch")),
      ])
      if !grants.contains(grant) { grants.append(grant) }
    }
    if !grants.isEmpty { members["grants"] = .array(grants.map { .string($0) }) }
    if let onBehalfOf {
      members["on_behalf_of"] = .object([
        "person": .string(onBehalfOf), "scopes": .array(scopes.map { .string($0) }),
      ])
    } else if !scopes.isEmpty {
      throw Failure(.usage, "--scope: there is nobody to act for without --on-behalf-of")
    }
    let given = try pairs(parameters, option: "--param", form: "NAME=VALUE")
    if !given.isEmpty { members["params"] = .object(given.mapValues(Self.parameter)) }
    if let stdin {
      members["stdin"] = .string(try text(readFile(stdin, field: "--stdin"), field: "--stdin"))
    }
    let limits = try limitMembers()
    if !limits.isEmpty { members["limits"] = .object(limits) }
    if let retry = try retryMember() { members["retry"] = retry }
    return String(decoding: try JSONEncoder().encode(JSONValue.object(members)), as: UTF8.self)
  }

  private func addProgram(to members: inout [String: JSONValue], store: Store) async throws {
    var words = command
    let isCommand = words.first == "--"
    if isCommand { words.removeFirst() }
    let runtime = try chosenRuntime(words, isCommand: isCommand)
    members["runtime"] = .string(runtime.rawValue)
    if runtime == .exec {
      guard !words.isEmpty, inlineCode == nil else {
        throw Failure(.usage, "runtime exec needs a command: cordon run -- /usr/bin/echo hello")
      }
      members["argv"] = .array(words.map(JSONValue.string))
      return
    }
    if let inlineCode {
      members["code"] = .string(inlineCode)
    } else {
      guard let file = words.first else {
        throw Failure(.usage, "runtime \(runtime.rawValue) needs FILE or --code")
      }
      words.removeFirst()
      let bytes = try readFile(file, field: "FILE")
      if bytes.count <= Self.inlineLimit {
        members["code"] = .string(try text(bytes, field: "FILE"))
      } else {
        members["code"] = .object(["blob": .string(try await store.putBlob(bytes).description)])
      }
    }
    if words.first == "--" { words.removeFirst() }
    if !words.isEmpty { members["args"] = .array(words.map(JSONValue.string)) }
  }

  private func chosenRuntime(_ words: [String], isCommand: Bool) throws -> Runtime {
    if let runtime {
      guard let known = Runtime(rawValue: runtime) else {
        let names = Runtime.allCases.map(\.rawValue).joined(separator: ", ")
        throw Failure(.usage, "--runtime: '\(runtime)' is unknown; there are \(names)")
      }
      return known
    }
    if isCommand { return .exec }
    guard let file = words.first else {
      throw Failure(.usage, "nothing to run: give FILE, --code with --runtime, or -- ARGV…")
    }
    if file.hasSuffix(".py") { return .python3 }
    if file.hasSuffix(".sh") { return .bash }
    throw Failure(
      .usage, "FILE: the runtime of '\(file)' is not clear; add --runtime python3|bash, or -- before a command")
  }

  private func retryMember() throws -> JSONValue? {
    guard let attempts else {
      if backoff != nil { throw Failure(.usage, "--backoff: there is nothing to wait for without --attempts") }
      return nil
    }
    var retry: [String: JSONValue] = ["attempts": .integer(Int64(attempts))]
    if let backoff {
      guard TimeSpan(backoff) != nil else {
        throw Failure(.usage, "--backoff: '\(backoff)' is no duration; write 500ms, 30s, 5m or 2h")
      }
      retry["delay"] = .string(backoff)
    }
    return .object(retry)
  }

  private func limitMembers() throws -> [String: JSONValue] {
    var limits: [String: JSONValue] = [:]
    if let timeout {
      guard TimeSpan(timeout) != nil else {
        throw Failure(.usage, "--timeout: '\(timeout)' is no duration; write 500ms, 30s, 5m or 2h")
      }
      limits["wall"] = .string(timeout)
    }
    for (option, name, value) in [("--memory", "memory", memory), ("--output-limit", "output", outputLimit)] {
      guard let value else { continue }
      guard ByteCount(value) != nil else {
        throw Failure(.usage, "\(option): '\(value)' is no size; write 256MiB")
      }
      limits[name] = .string(value)
    }
    if let cpus {
      guard let number = Double(cpus), number > 0, number.isFinite else {
        throw Failure(.usage, "--cpus: '\(cpus)' is no number of processors; write 0.5 or 2")
      }
      limits["cpus"] = .number(number)
    }
    if let pids { limits["pids"] = .integer(Int64(pids)) }
    return limits
  }

  private func addText(
    _ given: [String], option: String, as member: String, to members: inout [String: JSONValue]
  ) throws {
    let values = try pairs(given, option: option, form: "NAME=VALUE")
    if !values.isEmpty { members[member] = .object(values.mapValues(JSONValue.string)) }
  }

  private func pairs(_ given: [String], option: String, form: String) throws -> [String: String] {
    var values: [String: String] = [:]
    for pair in given {
      guard let equals = pair.firstIndex(of: "="), equals != pair.startIndex else {
        throw Failure(.usage, "\(option): '\(pair)' is not \(form)")
      }
      let name = String(pair[..<equals])
      guard values.updateValue(String(pair[pair.index(after: equals)...]), forKey: name) == nil else {
        throw Failure(.usage, "\(option): '\(name)' is given twice")
      }
    }
    return values
  }

  private static func parameter(_ text: String) -> JSONValue {
    (try? JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))) ?? .string(text)
  }

  private func text(_ bytes: [UInt8], field: String) throws -> String {
    guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
      throw Failure(.usage, "\(field): is no UTF-8 text without NUL bytes")
    }
    return text
  }
}

/// The bytes of a file the caller named ('-' for stdin), at most as many as a blob may have.
func readFile(_ path: String, field: String) throws -> [UInt8] {
  let limit = SpecificationOptions.blobLimit
  let handle = path == "-" ? FileHandle.standardInput : FileHandle(forReadingAtPath: path)
  guard let handle else {
    throw Failure(.usage, "\(field): cannot read '\(path)': \(String(cString: strerror(errno)))")
  }
  let data: Data
  do {
    // One byte more than allowed shows that there is more, without reading all of it.
    data = try handle.read(upToCount: limit + 1) ?? Data()
  } catch {
    throw Failure(.usage, "\(field): cannot read '\(path)'; is it a file?")
  }
  guard data.count <= limit else { throw Failure(.usage, "\(field): '\(path)' is larger than \(limit >> 20) MiB") }
  return Array(data)
}
