import Credentials
import Jobs
import Policies
import Testing

@Suite struct DefinitionTests {
  private func problem(_ definition: String) throws -> String {
    let document = try json("{\"index\": \(definition)}")
    do throws(CredentialError) {
      _ = try CredentialDefinition.all(document)
      return "taken"
    } catch {
      #expect(error.kind == .definition)
      return error.reason
    }
  }

  private func definition(source: String = "{\"file\": \"/etc/token\"}", inject: String) -> String {
    "{\"tenants\": [\"finance\"], \"queues\": [\"nightly\"], \"source\": \(source), \"inject\": \(inject)}"
  }

  @Test func aConfigurationInYAMLIsReadWhole() throws {
    let text = """
      index: {tenants: [finance, ops], queues: [nightly], source: {file: /etc/cordon/index-token}, inject: {bearer: true}}
      s3:
        tenants: [finance]
        queues: []
        source: {environment: S3_KEYS}
        inject: {aws_sigv4: {region: eu-central-1, service: s3, session_token: true}}
      api:
        tenants: [finance]
        queues: [nightly]
        source:
          vault:
            address: https://vault.internal:8200/
            mount: secret
            path: apps/api
            field: key
            token_file: /run/vault-token
            ca_file: /etc/vault-ca.pem
            namespace: team/a
        inject: {header: {name: X-Api-Key}}
      old: {tenants: [ops], queues: [nightly], source: {file: /o}, inject: {query: {name: key}, allow_query: true}}
      ledger-db:
        tenants: [finance]
        queues: [nightly]
        source: {postgres_role: {admin_url_file: /etc/cordon/ledger-admin, groups: [ledger_read], connection_limit: 2}}
      """
    let all = try CredentialDefinition.all(PolicySource(text).value)
    #expect(all.keys.sorted() == ["api", "index", "ledger-db", "old", "s3"])
    #expect(all["index"]?.source == .file("/etc/cordon/index-token") && all["index"]?.injection == .bearer)
    #expect(all["index"]?.tenants == ["finance", "ops"])
    #expect(all["s3"]?.source == .environment("S3_KEYS"))
    let scope = AWSScope(region: "eu-central-1", service: "s3", hasSessionToken: true)
    #expect(all["s3"]?.injection == .awsSignature(scope))
    let vault = try VaultAddress(
      address: "https://vault.internal:8200", mount: "secret", path: "apps/api", field: "key",
      tokenFile: "/run/vault-token", authorityFile: "/etc/vault-ca.pem", namespace: "team/a")
    #expect(all["api"]?.source == .vault(vault) && all["api"]?.injection == .header("X-Api-Key"))
    #expect(all["old"]?.injection == .query("key"))
    let terms = PostgresRoleTerms(
      adminFile: "/etc/cordon/ledger-admin", groups: ["ledger_read"], connectionLimit: 2, prefix: "cordon_job_")
    #expect(all["ledger-db"]?.source == .postgresRole(terms) && all["ledger-db"]?.injection == nil)
  }

  @Test("a token says who the attempt is, or for whom it acts where the definition asks for that")
  func tokens() throws {
    func source(_ terms: String) throws -> SourceDefinition? {
      let text = definition(source: "{\"workload_token\": \(terms)}", inject: "{\"bearer\": true}")
      return try CredentialDefinition.all(json("{\"index\": \(text)}"))["index"]?.source
    }
    #expect(try source(#"{"audience": "https://a"}"#) == .workloadToken(TokenTerms(audience: "https://a")))
    #expect(
      try source(#"{"audience": "https://a", "delegation": true}"#)
        == .workloadToken(TokenTerms(audience: "https://a", isDelegation: true)))
    for terms in [#"{"audience": "https://a", "delegation": "yes"}"#, #"{"delegation": true}"#] {
      #expect(throws: CredentialError.self) { try source(terms) }
    }
  }

  @Test("CR-09: who is not listed may not use it, and an empty list is nobody")
  func permission() throws {
    func permits(_ tenants: String, _ queues: String) throws -> Bool {
      let text = """
        {"index": {"tenants": \(tenants), "queues": \(queues), "source": {"file": "/t"}, "inject": {"bearer": true}}}
        """
      return try CredentialDefinition.all(json(text))["index"]!.permits(attempt())
    }
    #expect(try permits(#"["ops", "finance"]"#, #"["nightly"]"#))
    #expect(try !permits(#"["ops"]"#, #"["nightly"]"#))
    #expect(try !permits(#"["finance"]"#, #"["daily"]"#))
    #expect(try !permits("[]", #"["nightly"]"#))
    #expect(try !permits(#"["finance"]"#, "[]"))
    #expect(try !permits(#"["*"]"#, #"["*"]"#))
    #expect(try !permits(#"["Finance"]"#, #"["nightly"]"#))
  }

  @Test func whatIsNotUnderstoodIsRefusedWithItsPath() throws {
    let bearer = #"{"bearer": true}"#
    let cases: [(String, String)] = [
      ("7", "credentials.index: write an object"),
      (
        #"{"source": {"file": "/t"}, "inject": {"bearer": true}, "queues": []}"#,
        "credentials.index.tenants: is missing"
      ),
      (
        #"{"tenants": [], "source": {"file": "/t"}, "inject": {"bearer": true}}"#,
        "credentials.index.queues: is missing"
      ),
      (#"{"tenants": "finance", "queues": [], "source": {"file": "/t"}}"#, "credentials.index.tenants: write a list"),
      (#"{"tenants": ["a", "a"], "queues": []}"#, "credentials.index.tenants[1]: 'a' is there twice"),
      (#"{"tenants": [7], "queues": []}"#, "credentials.index.tenants[0]: write a text"),
      (#"{"tenants": [], "queues": [], "source": {"file": "/t"}}"#, "credentials.index.inject: is missing"),
      (#"{"tenants": [], "queues": [], "inject": {"bearer": true}}"#, "credentials.index.source: is missing"),
      (#"{"tenants": [], "queues": [], "scope": 1}"#, "credentials.index.scope: is not known here"),
      (definition(source: "{}", inject: bearer), "credentials.index.source: name exactly one source; there is none"),
      (
        definition(source: #"{"file": "/t", "environment": "T"}"#, inject: bearer),
        "credentials.index.source: name exactly one source; there is environment and file"
      ),
      (definition(source: #"{"exec": "/bin/x"}"#, inject: bearer), "credentials.index.source.exec: is not known here"),
      (
        definition(source: #"{"file": "token"}"#, inject: bearer),
        "credentials.index.source.file: write an absolute path"
      ),
      (definition(source: #"{"file": null}"#, inject: bearer), "credentials.index.source.file: write a text"),
      (definition(source: #"{"file": "/a\u0000b"}"#, inject: bearer), "credentials.index.source.file: holds a control"),
      (definition(source: #"{"environment": "A=B"}"#, inject: bearer), "credentials.index.source.environment: write"),
      (definition(inject: #"{"bearer": false}"#), "credentials.index.inject.bearer: write true"),
      (definition(inject: #"{"bearer": "yes"}"#), "credentials.index.inject.bearer: write true or false"),
      (definition(inject: #"{"bearer": true, "basic": true}"#), "credentials.index.inject: name exactly one form"),
      (definition(inject: #"{"allow_query": true}"#), "credentials.index.inject: name exactly one form; there is none"),
      (
        definition(inject: #"{"bearer": true, "allow_query": true}"#),
        "credentials.index.inject.allow_query: belongs to"
      ),
      (
        definition(inject: #"{"query": {"name": "k"}}"#),
        "credentials.index.inject.query: a target is written into logs"
      ),
      (
        definition(inject: #"{"query": {"name": "k"}, "allow_query": false}"#),
        "credentials.index.inject.query: a target is written into logs"
      ),
      (
        definition(inject: #"{"query": {"name": "a&b"}, "allow_query": true}"#),
        "credentials.index.inject.query.name: write letters"
      ),
      (
        definition(inject: #"{"header": {"name": "X Key"}}"#),
        "credentials.index.inject.header.name: 'X Key' is no name"
      ),
      (definition(inject: #"{"header": {"name": "X-Key:"}}"#), "credentials.index.inject.header.name: 'X-Key:' is no"),
      (definition(inject: #"{"header": {"value": "x"}}"#), "credentials.index.inject.header.value: is not known here"),
      (
        definition(inject: #"{"aws_sigv4": {"region": "eu"}}"#),
        "credentials.index.inject.aws_sigv4.service: is missing"
      ),
      (
        definition(inject: #"{"aws_sigv4": {"region": "eu/x", "service": "s3"}}"#),
        "credentials.index.inject.aws_sigv4.region: write a-z"
      ),
    ]
    for (text, beginning) in cases {
      let problem = try problem(text)
      #expect(problem.hasPrefix(beginning), "\(text) gave: \(problem)")
    }
    for name in ["Index", "", "a b", "9a", "a]", String(repeating: "a", count: 64)] {
      #expect(throws: CredentialError.self) {
        try CredentialDefinition(name: name, json: json(definition(inject: bearer)))
      }
    }
  }

  @Test("fields that frame or forward a request are nobody's to inject")
  func reservedFields() throws {
    for name in [
      "Connection", "TRANSFER-ENCODING", "Content-Length", "host", "Proxy-Authorization", "Upgrade", "TE", "Trailer",
      "Keep-Alive", "Expect", "Proxy-Connection",
    ] {
      let problem = try problem(definition(inject: "{\"header\": {\"name\": \"\(name)\"}}"))
      #expect(problem.contains("the broker's alone"), "\(name)")
    }
    #expect(try problem(definition(inject: #"{"header": {"name": "Authorization"}}"#)) == "taken")
  }

  @Test func aVaultThatWouldBeAskedInClearTextIsRefused() throws {
    func problem(_ address: String, path: String = "a/b") throws -> String {
      try self.problem(
        definition(
          source: """
            {"vault": {"address": "\(address)", "mount": "kv", "path": "\(path)", "field": "f", "token_file": "/t"}}
            """, inject: #"{"bearer": true}"#))
    }
    for address in ["https://v:8200", "https://v", "http://127.0.0.1:8200", "http://[::1]:8200", "http://localhost"] {
      #expect(try problem(address) == "taken", "\(address)")
    }
    for address in [
      "http://vault:8200", "http://127.0.0.1.evil.example:80", "http://localhost.evil.example", "http://10.0.0.1",
    ] { #expect(try problem(address).contains("clear text"), "\(address)") }
    for address in ["vault:8200", "https://", "https://u:p@v", "https://v/x", "https://v?x", "ftp://v"] {
      #expect(try problem(address).hasPrefix("credentials.index.source.vault"), "\(address)")
    }
    for path in ["", "/a", "a/", "a//b", "a/../b", "a b"] {
      #expect(try problem("https://v", path: path).hasPrefix("credentials.index.source.vault"), "\(path)")
    }
  }

  @Test func aRoleNeedsGroupsAndAPrefixOfItsOwn() throws {
    func problem(_ members: String) throws -> String {
      try self.problem(
        """
        {"tenants": [], "queues": [], "source": {"postgres_role": {"admin_url_file": "/a", \(members)}}}
        """)
    }
    #expect(try problem(#""groups": ["g"]"#) == "taken")
    #expect(try problem(#""groups": ["g"], "prefix": "acme_job_""#) == "taken")
    #expect(try problem(#""groups": []"#).contains("groups: an empty list is none"))
    for limit in ["0", "-1", "1001", "1.5", "\"2\"", "true"] {
      #expect(try problem("\"groups\": [\"g\"], \"connection_limit\": \(limit)").contains("connection_limit: write"))
    }
    for prefix in ["", "job", "pg_job_", "Job_", "job-1_", "_", String(repeating: "j", count: 24) + "_"] {
      #expect(try problem("\"groups\": [\"g\"], \"prefix\": \"\(prefix)\"").contains("prefix: write"), "\(prefix)")
    }
    let injected =
      #"{"tenants": [], "queues": [], "source": {"postgres_role": {"admin_url_file": "/a", "groups": ["g"]}}"#
    #expect(try self.problem(injected + #", "inject": {"basic": true}}"#).contains("put into no request"))
  }
}
