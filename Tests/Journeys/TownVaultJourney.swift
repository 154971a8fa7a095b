import Foundation
import Jobs
import TestKit
import Testing

extension TownJourneys {
  @Test("a bearer that is rotated in Vault is used from the next request on; where Vault refuses it nothing is sent")
  func rotation() async throws {
    let place = try await TownHouse.shared.value
    let (vault, secrets, path) = (place.vault, place.secrets, TownHouse.Secrets.turningPath)
    let (mark, before) = ("turning-\(UUID().uuidString)", try place.vault.requests().count)
    let saidBefore = await place.house.up.stderr.count
    let script = """
      while :; do curl -s -A \(mark) -o /dev/null -w '%{http_code}\\n' http://pypi.internal/simple/greeting/; sleep 0.1; done
      """
    func bearers() -> [String] {
      ((try? place.index.requests()) ?? []).filter { $0.headers["user-agent"] == mark }.map { $0.authorization ?? "" }
    }
    let job = try await place.enqueue(script, grants: ["turning"])
    func refusals() async throws -> Int { try await place.house.ledger(job).denials.count }
    /// Waits until requests are refused, and sees that from there on none is sent.
    func expectNothingSent(_ why: String) async throws {
      let begun = try await refusals()
      // The one that was under way when Vault changed its mind may still be sent; all behind the first refusal are not.
      while try await refusals() < begun + 1 { try await Task.sleep(for: .milliseconds(50)) }
      let sent = bearers().count
      while try await refusals() < begun + 4 { try await Task.sleep(for: .milliseconds(50)) }
      #expect(bearers().count == sent, "\(why)")
    }
    try await eventually("the first version is used") { bearers().count >= 3 }
    #expect(bearers().allSatisfy { $0 == "Bearer \(secrets.index)" })
    try vault.put(path, ["token": secrets.rotated])
    try await eventually("the second version is used") { bearers().count { $0 == "Bearer \(secrets.rotated)" } >= 3 }
    let all = bearers()
    let first = try #require(all.firstIndex(of: "Bearer \(secrets.rotated)"))
    #expect(all[first...].allSatisfy { $0 == "Bearer \(secrets.rotated)" }, "no request goes back to the first version")
    try vault.delete(path, version: 2)
    try await expectNothingSent("deleted")
    try vault.put(path, ["token": secrets.index])
    try await eventually("the third version is used") { bearers().last == "Bearer \(secrets.index)" }
    try place.showVault("hvs.of-another-worker")
    try await expectNothingSent("the worker's own token is refused")
    try place.showVault(vault.token)
    let count = bearers().count
    try await eventually("the worker's token is good again") { bearers().count > count }
    _ = try await place.house.tool.run(["cancel", job])
    let (record, text, ledger) = try await place.house.end(of: job)
    // The index took the first and the third, and not the second, which is its own word for which one it was.
    let statuses = text.split(separator: "\n").map(String.init)
    var runs: [String] = []
    for status in statuses where status != runs.last && status != "000" { runs.append(status) }
    #expect(runs == ["200", "401", "403", "200", "403", "200"], "\(runs)")
    #expect(Set(ledger.denials.filter { !$0.hasPrefix("cut: ") }).count == 1, "\(Set(ledger.denials))")
    #expect(
      ledger.denials.contains(
        #"grant "turning": its credential turning could not be had, and nothing is sent without it"#))
    // The job is not told why; whoever runs the worker is, once each.
    let said = String(await place.house.up.stderr.dropFirst(saidBefore))
    for reason in ["the latest version is deleted or destroyed", "Vault refuses the token"] {
      #expect(said.components(separatedBy: reason).count == 2 && !text.contains(reason), "\(reason)")
    }
    #expect(try vault.requests().count > before + 3, "control: Vault was asked")
    #expect(record["outcome"] == .string("cancelled"))
    try await place.expectNoSecret(in: record)
  }

  @Test("a job whose credential Vault does not have when it begins does not begin")
  func forgotten() async throws {
    let place = try await TownHouse.shared.value
    let (vault, path) = (place.vault, TownHouse.Secrets.turningPath)
    let script = "curl -sS -o /dev/null -w '%{http_code}\\n' http://pypi.internal/simple/greeting/"
    let last = try vault.put(path, ["token": place.secrets.index])
    try vault.delete(path, version: last)
    let refused = try await place.run(script, grants: ["turning"])
    #expect(refused.record["outcome"] == .string("refused") && refused.text.isEmpty)
    let reason = refused.record["reason"]?.string ?? ""
    #expect(reason.contains("credential 'turning'") && reason.contains("deleted"), "\(reason)")
    try vault.put(path, ["token": place.secrets.index])
    let control = try await place.run(script, grants: ["turning"])
    #expect(control.text == "200\n")
  }
}
