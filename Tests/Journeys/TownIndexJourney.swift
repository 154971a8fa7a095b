import Foundation
import Jobs
import TestKit
import Testing

extension TownJourneys {
  /// pip as Debian has it beside its interpreter, against the name that the job knows: `pip_download LIST DIRECTORY`.
  private static let pip = """
    pip_download() {
      wheel=$(echo /usr/share/python-wheels/pip-*.whl)
      python3 "$wheel/pip" --isolated --no-cache-dir --disable-pip-version-check download --require-hashes --retries 0 \
        --trusted-host pypi.internal --index-url http://pypi.internal/simple/ --requirement "$1" --dest "$2" 2>&1
    }
    """

  @Test("pip downloads a locked list from an index that demands a bearer from Vault, and refuses another hash")
  func download() async throws {
    let place = try await TownHouse.shared.value
    let index = place.index
    let before = try index.requests().count
    let wrong = "greeting==1.0 --hash=sha256:\(String(repeating: "0", count: 64))"
    let script = """
      \(Self.pip)
      cd /tmp; export HOME=/tmp
      cat >lock <<'END'
      \(try index.requirements(["parting==1.0", "greeting==1.1"]))END
      pip_download lock right >said || cat said
      (cd right && sha256sum *)
      echo '\(wrong)' >lock
      pip_download lock wrong | grep -o 'DO NOT MATCH THE HASHES'
      ls wrong 2>/dev/null
      env | grep -c town-index
      """
    let (record, text, ledger) = try await place.run(script, grants: ["index"], limit: .seconds(60))
    let expected = index.packages.filter { $0.name == "parting" || $0.version == "1.1" }.map {
      "\($0.sha256)  \($0.file)\n"
    }.joined()
    #expect(text == expected + "DO NOT MATCH THE HASHES\n0\n")
    #expect(ledger.denials.isEmpty, "\(ledger.denials)")
    let asked = try index.requests().dropFirst(before)
    #expect(asked.allSatisfy { $0.authorization == "Bearer \(place.secrets.index)" && $0.method == "GET" })
    #expect(asked.contains { $0.path.hasSuffix("parting-1.0-py3-none-any.whl") })
    // Control: who has no bearer gets nothing.
    let curl = ["/usr/bin/curl", "--silent", "--cacert", place.town.certificates.caFile]
    let bare = try await place.town.run(curl + ["--output", "/dev/null", "--write-out", "%{http_code}", index.url])
    #expect(bare.text == "401")
    try await place.expectNoSecret(in: record)
  }

  @Test("an upload and every other request than those of the list are refused, and the index hears of none")
  func uploads() async throws {
    let place = try await TownHouse.shared.value
    let before = try place.index.requests().count
    let script = """
      ask() { curl -sS --path-as-is -o /dev/null -w '%{http_code}\\n' "$@"; }
      echo content >/tmp/new-1.0.tar.gz
      ask -F :action=file_upload -F protocol_version=1 -F name=new -F version=1.0 -F content=@/tmp/new-1.0.tar.gz \
        http://pypi.internal/legacy/
      ask -F :action=file_upload -F content=@/tmp/new-1.0.tar.gz http://pypi.internal/
      ask -F :action=file_upload -F content=@/tmp/new-1.0.tar.gz http://pypi.internal/simple/greeting/
      ask -T /tmp/new-1.0.tar.gz http://pypi.internal/packages/new-1.0.tar.gz
      ask -X DELETE http://pypi.internal/packages/greeting-1.0-py3-none-any.whl
      ask 'http://pypi.internal/simple/greeting/?said=this'
      ask http://pypi.internal/packages/../town-health
      ask http://pypi.internal/town-health
      ask http://pypi.internal/simple/greeting/
      """
    let (_, text, ledger) = try await place.run(script, grants: ["index"])
    let statuses = text.split(separator: "\n").map(String.init)
    #expect(statuses.count == 9 && statuses.dropLast().allSatisfy { $0 == "403" || $0 == "400" }, "\(statuses)")
    #expect(statuses.last == "200", "control")
    #expect(ledger.denials.count == 8)
    try await eventually("the one is recorded") { (try? place.index.requests().count) == before + 1 }
    #expect(try place.index.requests().last?.path == "/simple/greeting/")
  }

  @Test("what one job did at the index no other can see there")
  func apart() async throws {
    let place = try await TownHouse.shared.value
    // All that the grant lets a job read, without the hour; a name that was never there too.
    let read = """
      for path in simple/greeting/ simple/parting/ simple/message-1011/ packages/greeting-1.0-py3-none-any.whl \
        packages/message-1.0.tar.gz; do
        curl -sS -D - http://pypi.internal/$path | grep -avi '^date:' | sha256sum
      done
      """
    let write = """
      echo 1011 >/tmp/message-1.0.tar.gz
      curl -sS -o /dev/null -F :action=file_upload -F content=@/tmp/message-1.0.tar.gz http://pypi.internal/
      curl -sS -o /dev/null -T /tmp/message-1.0.tar.gz http://pypi.internal/packages/message-1.0.tar.gz
      for i in 1 2 3 4 5; do
        curl -sS -o /dev/null -A message -H 'X-Message: 1011' -e 'http://message.test/' -b message=1011 \
          http://pypi.internal/simple/message-1011/
        curl -sS -o /dev/null http://pypi.internal/packages/message-1.0.tar.gz
      done
      curl -sS -o /dev/null -w '%{http_code}\\n' http://pypi.internal/simple/greeting/
      """
    let before = try await place.run(read, grants: ["index"])
    let writer = try await place.run(write, grants: ["index"])
    #expect(writer.text == "200\n", "control: it reached the index")
    #expect(writer.ledger.denials.count == 2)
    let after = try await place.run(read, grants: ["index"])
    let pages = before.text.split(separator: "\n")
    #expect(pages.count == 5 && Set(pages).count >= 4, "control: pages differ from one another")
    #expect(after.text == before.text)
  }
}
