import Foundation

extension Town {
  /// Two collectors at logs.internal: HTTPS at 443 (POST /ingest), and rsyslog over TLS at 6514.
  public func logs() async throws -> Logs {
    try await once("logs") { [self] in
      let record = try await serveHTTPS("ingest", "logs.internal", Street.logs, port: 443)
      let lines = directory.appending(path: "syslog.lines")
      let configuration = directory.appending(path: "rsyslog.conf")
      let (certificate, key) = try await certificates.issue("logs.internal")
      try Logs.configuration(
        address: namespace.address(Street.logs), directory: directory.path, authority: certificates.caFile,
        certificate: certificate, key: key, lines: lines.path
      ).write(to: configuration, atomically: true, encoding: .utf8)
      try await serve(
        "rsyslog", ["/usr/sbin/rsyslogd", "-n", "-f", configuration.path, "-i", directory.path + "/rsyslog.pid"]
      ) { namespace.accepts(Street.logs, Logs.syslogPort) }
      return Logs(address: namespace.address(Street.logs), record: record, file: lines)
    }
  }

  public struct Logs: Sendable {
    public static let syslogPort: UInt16 = 6514
    public let ingest = "https://logs.internal/ingest"
    public let address: String
    private let record: URL
    private let file: URL

    init(address: String, record: URL, file: URL) {
      self.address = address
      self.record = record
      self.file = file
    }

    /// What came by HTTPS.
    public func requests() throws -> [TownRequest] { try Town.record(record) }

    /// What came by syslog: each message whole, with its header, as it was received; in order of arrival. A message is
    /// there a moment after it was sent, since nothing is answered to it.
    public func lines() -> [String] {
      let text = (try? String(contentsOf: file, encoding: .utf8)) ?? ""
      return text.split(separator: "\n", omittingEmptySubsequences: false).dropLast().map(String.init)
    }

    static func configuration(
      address: String, directory: String, authority: String, certificate: String, key: String, lines: String
    ) -> String {
      """
      global(
        workDirectory="\(directory)"
        # Nobody in the town could tell what a client is called, and the client would wait for the attempt.
        net.enableDNS="off"
        # GnuTLS: the one of rsyslog's TLS drivers that Debian packages by default.
        defaultNetstreamDriver="gtls"
        defaultNetstreamDriverCAFile="\(authority)"
        defaultNetstreamDriverCertFile="\(certificate)"
        defaultNetstreamDriverKeyFile="\(key)"
      )
      # Mode 1 is TLS and nothing else. Clients have no certificates here: it is they who verify.
      module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
      # As received: with priority, version and time, and control characters escaped, so that a message is a line.
      template(name="received" type="string" string="%rawmsg%\\n")
      # A ruleset of its own, in which what rsyslog says of itself does not come.
      ruleset(name="town") { action(type="omfile" file="\(lines)" template="received") }
      input(type="imtcp" address="\(address)" port="\(syslogPort)" ruleset="town")
      # What rsyslog says of itself; without any action of the default ruleset it does not start.
      action(type="omfile" file="\(directory)/rsyslog.log")

      """
    }
  }
}
