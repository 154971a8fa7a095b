import Foundation

extension Town {
  /// A package index at https://pypi.internal/simple/: pypiserver, with nginx before it.
  /// - Parameter authorization: what the header `Authorization` has to be, whole; nil is that nobody asks. It is
  ///   decided by the first call.
  public func index(demanding authorization: String? = nil) async throws -> Index {
    if let authorization, authorization.contains(/["\\$\n]/) {
      throw Problem("\(authorization) cannot be compared by nginx: leave out quotes, backslashes, dollars, line ends")
    }
    let index = try await once("index") { [self] in try await makeIndex(authorization) }
    guard index.authorization == authorization else {
      throw Problem("this town's index was started with another authorization; use another town")
    }
    return index
  }

  private func makeIndex(_ authorization: String?) async throws -> Index {
    let (names, address) = (try await dns(), namespace.address(Street.index))
    let packages = directory.appending(path: "packages")
    let built = try await Self.perform(Self.script("wheels", [packages.path]))
    let record = directory.appending(path: "index.record")
    let configuration = directory.appending(path: "nginx.conf")
    let (certificate, key) = try await certificates.issue(Index.host)
    try Index.configuration(
      address: address, directory: directory.path, certificate: certificate, key: key, record: record.path,
      authorization: authorization
    ).write(to: configuration, atomically: true, encoding: .utf8)
    try await serve("nginx", ["/usr/sbin/nginx", "-c", configuration.path, "-e", directory.path + "/nginx.log"]) {
      namespace.accepts(Street.index, 443)
    }
    try await serve(
      "pypiserver",
      [
        try Self.interpreter, "-Im", "pypiserver", "run", "--interface", "127.0.0.1", "--port", Index.innerPort,
        // What is not here is nowhere: nobody is sent on to the real index.
        "--disable-fallback",
        // The digest that lock files have.
        "--hash-algo", "sha256", packages.path,
      ]
    ) {
      // Through both of them.
      let ask = [
        "/usr/bin/curl", "--silent", "--fail", "--cacert", certificates.caFile, "--resolve",
        "\(Index.host):443:\(address)", "https://\(Index.host)\(Index.health)",
      ]
      return (try? await Self.perform(ask)) != nil
    }
    try names.set(Index.host, to: [.addresses([address])])
    return Index(
      address: address, packages: try JSONDecoder().decode([Index.Package].self, from: Data(built)),
      authorization: authorization, record: record)
  }

  public struct Index: Sendable {
    public struct Package: Sendable, Decodable {
      public let name: String
      public let version: String
      /// The wheel's.
      public let file: String
      public let sha256: String
    }

    public static let host = "pypi.internal"
    public let url = "https://pypi.internal/simple/"
    public let address: String
    /// `greeting` 1.0 and 1.1, and `parting` 1.0, which needs a `greeting`.
    public let packages: [Package]
    let authorization: String?
    private let record: URL

    init(address: String, packages: [Package], authorization: String?, record: URL) {
      self.address = address
      self.packages = packages
      self.authorization = authorization
      self.record = record
    }

    /// Lines for pip's `--require-hashes`, of packages such as `greeting==1.0`.
    public func requirements(_ wanted: [String]) throws -> String {
      try wanted.map { wanted in
        guard let package = packages.first(where: { "\($0.name)==\($0.version)" == wanted }) else {
          throw Problem("the town's index has no \(wanted)")
        }
        return "\(wanted) --hash=sha256:\(package.sha256)\n"
      }.joined()
    }

    /// What nginx was asked, whatever it answered, except by the town itself. A request is there a moment after its answer.
    public func requests() throws -> [TownRequest] { try Town.record(record) }

    static let innerPort = "8080"
    static let health = "/town-health"

    static func configuration(
      address: String, directory: String, certificate: String, key: String, record: String, authorization: String?
    ) -> String {
      let demand =
        authorization.map {
          """
          if ($http_authorization != "\($0)") {
                  add_header WWW-Authenticate 'Basic realm="town"' always;
                  return 401;
                }
          """
        } ?? "# Nobody has to say who he is."
      return """
        # In the foreground, so that it is the town's to end.
        daemon off;
        pid \(directory)/nginx.pid;
        # Debian's own user could not write into the town's directory.
        user root;
        worker_processes 1;
        events {}
        http {
          # One JSON object a line, escaped as JSON wants it; the shape is that of the town's other hosts.
          log_format request escape=json '{"method":"$request_method","path":"$request_uri","headers":{'
            '"authorization":"$http_authorization","host":"$http_host","user-agent":"$http_user_agent",'
            '"cookie":"$http_cookie","accept":"$http_accept"},"body":""}';
          # Instead of /var/lib/nginx, which is another server's.
          client_body_temp_path \(directory)/nginx-body;
          proxy_temp_path \(directory)/nginx-proxy;
          fastcgi_temp_path \(directory)/nginx-fastcgi;
          uwsgi_temp_path \(directory)/nginx-uwsgi;
          scgi_temp_path \(directory)/nginx-scgi;
          server {
            listen \(address):443 ssl;
            server_name \(host);
            ssl_certificate \(certificate);
            ssl_certificate_key \(key);
            access_log \(record) request;
            # What pypiserver writes into its pages is relative to the name it was asked by.
            proxy_set_header Host $http_host;
            location / {
                \(demand)
              proxy_pass http://127.0.0.1:\(innerPort);
            }
            # By which the town sees that both serve; nobody else's, and so in no record.
            location = \(health) {
              access_log off;
              proxy_pass http://127.0.0.1:\(innerPort)/health;
            }
          }
        }

        """
    }
  }
}
