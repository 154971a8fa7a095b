import Foundation
import Jobs
import TestKit
import Testing

extension TownJourneys {
  @Test("from the cancellation on, what goes on in the cell until it is killed gets nothing any more")
  func cancelled() async throws {
    let place = try await TownHouse.shared.value
    let mark = "cancelled-\(UUID().uuidString)"
    // Neither minds being asked to end, so that only the kill ends them; each line is written by a process that lives.
    let script = """
      trap '' TERM
      (
        i=0
        while :; do
          i=$((i + 1))
          echo "$i $(curl -s -m 2 -o /dev/null -w '%{http_code}' -d "\(mark) $i" http://logs.internal/ingest)"
          sleep 0.02
        done
      ) &
      wait
      """
    func arrived() -> [Int] {
      ((try? place.logs.requests()) ?? []).compactMap { request in
        let words = String(decoding: request.body, as: UTF8.self).split(separator: " ")
        return words.first == mark[...] ? words.last.flatMap { Int($0) } : nil
      }
    }
    let job = try await place.enqueue(script, grants: ["ingest"])
    try await eventually("it posts") { arrived().count >= 5 }
    _ = try await place.house.tool.run(["cancel", job])
    let (record, text, ledger) = try await place.house.end(of: job)
    #expect(record["outcome"] == .string("cancelled"))
    let tries = text.split(separator: "\n").map { $0.split(separator: " ") }.filter { $0.count == 2 }
    let failed = tries.filter { $0[1] != "200" }.compactMap { Int($0[0]) }
    let first = try #require(failed.first)
    print("cancelled: \(arrived().count) posts taken, \(failed.count) failed behind the cut")
    #expect(failed.count >= 5, "control: it went on")
    #expect(failed == Array(first..<first + failed.count), "once cut, nothing gets through")
    // The one that was under way may have been taken before its answer was cut.
    #expect(arrived().max().map { $0 <= first } == true)
    let count = arrived().count
    let cut = try #require(ledger.lastIndex { $0["rule"]?.string?.hasPrefix("cut: ") == true }, "\(ledger.suffix(3))")
    #expect(!ledger[cut...].decisions.contains("allowed"))
    // Another job of the same grant comes through meanwhile, and nothing of this one.
    let other = try await place.run(
      "curl -sS -o /dev/null -w '%{http_code}' -d other http://logs.internal/ingest", grants: ["ingest"])
    #expect(other.text == "200" && arrived().count == count)
  }

  @Test("a process that a job leaves behind posts nothing once its attempt has ended")
  func leftBehind() async throws {
    let place = try await TownHouse.shared.value
    let mark = "left-\(UUID().uuidString)"
    let script = """
      (trap '' TERM; while :; do curl -s -m 2 -o /dev/null -d "\(mark)" http://logs.internal/ingest; done) >/dev/null 2>&1 &
      disown; sleep 1; exit 0
      """
    func arrived() -> Int {
      ((try? place.logs.requests()) ?? []).count { String(decoding: $0.body, as: UTF8.self) == mark }
    }
    let (record, _, _) = try await place.run(script, grants: ["ingest"])
    let count = arrived()
    #expect(record["outcome"] == .string("succeeded") && count > 0, "control: it posted while the attempt ran")
    let other = try await place.run(
      "curl -sS -o /dev/null -w '%{http_code}' -d other http://logs.internal/ingest", grants: ["ingest"])
    #expect(other.text == "200" && arrived() == count)
  }

  @Test("each attempt has a ledger and an authority of its own, and nothing of the first reaches into the second")
  func secondAttempt() async throws {
    let place = try await TownHouse.shared.value
    let mark = "attempts-\(UUID().uuidString)"
    let script = """
      url=https://logs.internal/ingest
      curl -sS -o /dev/null -w '%{http_code} ' -d "\(mark) $CORDON_ATTEMPT" $url
      sha256sum <"$SSL_CERT_FILE" | cut -c1-64
      if [ "$CORDON_ATTEMPT" = 1 ]; then
        (trap '' TERM; while :; do curl -s -m 2 -o /dev/null -d "\(mark) left" $url; done) >/dev/null 2>&1 &
        disown; sleep 1; exit 1
      fi
      curl -sS -o /dev/null -w '%{http_code}\\n' -d "\(mark) last" $url
      """
    let job = try await place.enqueue(
      script, grants: ["inspected"], options: ["--attempts", "2", "--backoff", "100ms"])
    let (record, text, second) = try await place.house.end(of: job)
    #expect(record["outcome"] == .string("succeeded") && record["attempt"]?.integer == 2, "\(record)")
    let first = try await place.house.ledger(job, attempt: 1)
    let firstText = try await place.house.tool.run(["logs", "--attempt", "1", job]).text
    let bodies = try place.logs.requests().map { String(decoding: $0.body, as: UTF8.self) }
      .filter { $0.hasPrefix(mark) }.map { $0.dropFirst(mark.count + 1) }
    #expect(bodies.count { $0 == "left" } > 0, "control: the first attempt's process posted")
    #expect(bodies.first == "1" && bodies.suffix(2) == ["2", "last"] && bodies.count { $0 == "2" } == 1)
    // Two chains with two beginnings, each whole by its own record.
    #expect(first.first?["seq"]?.integer == 1 && second.first?["seq"]?.integer == 1)
    #expect(first.first?["previous"] != second.first?["previous"])
    #expect(second.decisions == ["allowed", "closed", "allowed", "closed"] && first.count > second.count)
    #expect(record["attribution"]?["isolation"]?["egress"]?["head"] == second.last?["hash"])
    let authorities = [firstText, text].compactMap { $0.split(separator: "\n").first?.split(separator: " ").last }
    #expect(Set(authorities).count == 2 && authorities.allSatisfy { $0.count == 64 }, "\(authorities)")
  }
}
