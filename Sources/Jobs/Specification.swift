/// How code becomes a process.
public enum Runtime: String, Codable, CaseIterable, Sendable {
  /// `argv` is executed as it stands; no shell.
  case exec
  /// `/usr/bin/python3 -I main.py ARGS…`
  case python3
  /// `/usr/bin/bash --noprofile --norc main.sh ARGS…`
  case bash
}

/// Where the bytes of an input, or of the code, come from. Exactly one is named.
public enum Source: Codable, Equatable, Sendable {
  /// The bytes are in the specification itself.
  case text(String)
  /// A blob of the job's tenant, by digest (`sha256:` and 64 hex digits).
  case blob(Digest)
  /// A file beneath the input root that the worker's operator approved; relative, without `..`.
  case path(String)
  /// The result document of another job of the tenant, by its id.
  case result(String)
  /// A file that another job of the tenant published: its id, a slash, and the artifact's path.
  case artifact(String)

  /// What a source is called in a specification, and in a policy's `filesystem.inputs`. `cordon.input_kinds()` has the same.
  public enum Kind: String, CodingKey, CaseIterable, Sendable { case text, blob, path, result, artifact }

  public var kind: Kind {
    switch self {
    case .text: .text
    case .blob: .blob
    case .path: .path
    case .result: .result
    case .artifact: .artifact
    }
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Kind.self)
    guard container.allKeys.count == 1, let key = container.allKeys.first else {
      throw DecodingError.dataCorrupted(
        .init(
          codingPath: decoder.codingPath,
          debugDescription: "exactly one of \(Kind.allCases.map(\.rawValue).joined(separator: ", "))"))
    }
    switch key {
    case .text: self = .text(try container.decode(String.self, forKey: key))
    case .blob: self = .blob(try container.decode(Digest.self, forKey: key))
    case .path: self = .path(try container.decode(String.self, forKey: key))
    case .result: self = .result(try container.decode(String.self, forKey: key))
    case .artifact: self = .artifact(try container.decode(String.self, forKey: key))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Kind.self)
    switch self {
    case .text(let text): try container.encode(text, forKey: .text)
    case .blob(let digest): try container.encode(digest, forKey: .blob)
    case .path(let path): try container.encode(path, forKey: .path)
    case .result(let job): try container.encode(job, forKey: .result)
    case .artifact(let name): try container.encode(name, forKey: .artifact)
    }
  }
}

/// What to run, as SQL, the command line and later HTTP and MCP state it. Immutable once accepted. The database
/// is the judge of a specification (`cordon.check_specification`); this is the worker's view of an accepted one.
public struct JobSpecification: Codable, Equatable, Sendable {
  public var runtime: Runtime
  /// The command of the `exec` runtime; empty otherwise.
  public var argv: [String]
  /// The program of the interpreting runtimes; nil for `exec`. A plain JSON string or a `Source`.
  public var code: Source?
  /// Arguments after the program of the interpreting runtimes.
  public var args: [String]
  public var env: [String: String]
  public var stdin: String?
  /// Read-only files beneath `/input`, by name.
  public var inputs: [String: Source]
  /// Free-form parameters, given to the job as the file `/job/params.json` (its path in `CORDON_PARAMS`).
  public var params: JSONValue?
  public var labels: [String: String]
  /// Names of what the policy grants and the job wants to reach; empty is nothing.
  public var grants: [String]
  /// What is fetched before the job runs, and given to it as inputs.
  public var fetch: Fetch?
  /// For whom its submitter, an agent, put it in; nil for nobody else.
  public var onBehalfOf: OnBehalf?

  public struct OnBehalf: Codable, Equatable, Sendable {
    /// A role.
    public var person: String
    /// What for; no more than the person delegated to the submitter.
    public var scopes: [String]

    public init(person: String, scopes: [String]) {
      self.person = person
      self.scopes = scopes
    }
  }

  /// The inputs, and the program where its text is not in the document itself, with the fields that name them.
  public var sources: [(field: String, source: Source)] {
    var sources = inputs.sorted { $0.key < $1.key }.map { (field: "inputs.\($0.key)", source: $0.value) }
    if let code, code.kind != .text { sources.insert(("code", code), at: 0) }
    return sources
  }

  public struct Fetch: Codable, Equatable, Sendable {
    /// The text of a `LockedRequirements`.
    public var pip: String
    /// Name of a grant of phase `fetch`.
    public var grant: String

    public init(pip: String, grant: String) {
      self.pip = pip
      self.grant = grant
    }
  }

  enum CodingKeys: String, CodingKey {
    case runtime, argv, code, args, env, stdin, inputs, params, labels, grants, fetch
    case onBehalfOf = "on_behalf_of"
  }

  public init(
    runtime: Runtime, argv: [String] = [], code: Source? = nil, args: [String] = [], env: [String: String] = [:],
    stdin: String? = nil, inputs: [String: Source] = [:], params: JSONValue? = nil, labels: [String: String] = [:],
    grants: [String] = [], fetch: Fetch? = nil, onBehalfOf: OnBehalf? = nil
  ) {
    self.grants = grants
    self.fetch = fetch
    self.onBehalfOf = onBehalfOf
    self.runtime = runtime
    self.argv = argv
    self.code = code
    self.args = args
    self.env = env
    self.stdin = stdin
    self.inputs = inputs
    self.params = params
    self.labels = labels
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    runtime = try container.decode(Runtime.self, forKey: .runtime)
    argv = try container.decodeIfPresent([String].self, forKey: .argv) ?? []
    if container.contains(.code), let inline = try? container.decode(String.self, forKey: .code) {
      code = .text(inline)
    } else {
      code = try container.decodeIfPresent(Source.self, forKey: .code)
    }
    args = try container.decodeIfPresent([String].self, forKey: .args) ?? []
    env = try container.decodeIfPresent([String: String].self, forKey: .env) ?? [:]
    stdin = try container.decodeIfPresent(String.self, forKey: .stdin)
    inputs = try container.decodeIfPresent([String: Source].self, forKey: .inputs) ?? [:]
    params = try container.decodeIfPresent(JSONValue.self, forKey: .params)
    labels = try container.decodeIfPresent([String: String].self, forKey: .labels) ?? [:]
    grants = try container.decodeIfPresent([String].self, forKey: .grants) ?? []
    fetch = try container.decodeIfPresent(Fetch.self, forKey: .fetch)
    onBehalfOf = try container.decodeIfPresent(OnBehalf.self, forKey: .onBehalfOf)
  }
}
