import Jobs

/// How a specification becomes a process: the program file, its name, the argument vector and the environment.
/// No shell is involved anywhere; arguments reach the program byte for byte.
struct CellCommand: Equatable {
  /// Name of the program file in the working directory; nil for `exec`.
  var program: String?
  var argv: [String]
  var environment: [String: String]

  /// Paths as the job sees them.
  enum CellPath {
    static let job = "/job"
    static let input = "/input"
    static let output = "/output"
    static let result = "/result/result.json"
    static let progress = "/result/progress.json"
    static let temporary = "/tmp"
    static let parameters = "params.json"
    static let certificates = "ca.pem"
  }

  /// Where a job with grants finds a proxy for clients that insist on one. Not HTTPS_PROXY: the others need none.
  static let proxyVariable = "CORDON_PROXY"

  /// The search path inside the cell; `/usr` is all there is.
  static let searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"

  init(_ specification: JobSpecification, job: String, attempt: Int, tenant: String, queue: String) {
    switch specification.runtime {
    case .exec:
      program = nil
      argv = specification.argv
    case .python3:
      program = "main.py"
      // -I: no environment variable, user directory or working directory changes what `import` finds.
      // -B: the working directory is read-only. -u: what was printed before a kill is kept.
      argv = ["/usr/bin/python3", "-I", "-B", "-u", "\(CellPath.job)/main.py"] + specification.args
    case .bash:
      program = "main.sh"
      argv = ["/usr/bin/bash", "--noprofile", "--norc", "\(CellPath.job)/main.sh"] + specification.args
    }
    environment = [
      "PATH": Self.searchPath, "HOME": CellPath.temporary, "TMPDIR": CellPath.temporary, "USER": "job",
      "LOGNAME": "job", "LANG": "C.UTF-8", "TZ": "UTC",
    ]
    // The database refuses CORDON_ names from producers; ours are set last all the same.
    environment.merge(specification.env) { _, asked in asked }
    environment["CORDON_JOB"] = job
    environment["CORDON_ATTEMPT"] = String(attempt)
    environment["CORDON_TENANT"] = tenant
    environment["CORDON_QUEUE"] = queue
    environment["CORDON_INPUT"] = CellPath.input
    environment["CORDON_OUTPUT"] = CellPath.output
    environment["CORDON_RESULT"] = CellPath.result
    environment["CORDON_PROGRESS"] = CellPath.progress
    if specification.params != nil { environment["CORDON_PARAMS"] = "\(CellPath.job)/\(CellPath.parameters)" }
  }

  /// What clients need to find out that has grants: whom to trust, under the names that the usual ones read, unless the job says
  /// otherwise; and a proxy.
  mutating func addNetwork(proxy: String) {
    let certificates = "\(CellPath.job)/\(CellPath.certificates)"
    for name in Self.certificateVariables { environment[name] = environment[name] ?? certificates }
    environment[Self.proxyVariable] = proxy
  }

  /// The attempt's own login to PostgreSQL, under the names that libpq reads. It is over when the attempt is.
  mutating func addLogin(user: String, password: String) {
    environment["PGUSER"] = user
    environment["PGPASSWORD"] = password
  }

  /// OpenSSL, curl, requests, pip, git, Node.js, libpq.
  private static let certificateVariables = [
    "SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS",
    "PGSSLROOTCERT",
  ]

  /// Turns a bare name such as `grep` into the absolute path that execve needs, by the cell's own search path. The
  /// cell's `/usr` is the worker's, so the worker may look; a job's own PATH is not asked, because it says what the
  /// job's children find and not what Cordon starts.
  /// - Throws: `Refusal` when no directory of the search path has it.
  mutating func resolveProgram(isExecutable: (String) -> Bool) throws {
    guard let name = argv.first, !name.contains("/") else { return }
    let found = Self.searchPath.split(separator: ":").map { "\($0)/\(name)" }.first(where: isExecutable)
    guard let found else { throw Refusal("argv[0]: no program '\(name)' in \(Self.searchPath)") }
    argv[0] = found
  }
}
