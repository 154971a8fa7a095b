import Foundation
import Jobs
import Postgres
import TestKit

/// The cases on the bounds of the output area once more, where a policy puts that on a disk: the same programs, the same
/// judgement, the same controls. They have a house of their own, because its policy is another.
enum DiskCases {
  static let all: [AttackCase] = [
    onDisk("FS-18", as: "FS-18b"), onDisk("FS-19", as: "FS-19b"), onDisk("FS-35", as: "FS-35c"),
  ]

  private static func onDisk(_ original: String, as id: String) -> AttackCase {
    guard let attack = OutputCases.all.first(where: { $0.id == original }) else {
      preconditionFailure("\(original) is no case on outputs")
    }
    return FleetCases.fleetCase(id, attack.what + ", which lies on a disk") { place, verdict in
      let before = boundDevices()
      try await FleetCases.withHouse(&verdict) { house, verdict in
        let policy = Statement(
          name: "attack-policy",
          sql: """
            SELECT cordon.set_policy((document::jsonb || '{"outputs": {"on": "disk"}}')::text) FROM cordon.show_policy()
            """)
        _ = try await house.superuser.query(policy)
        let evidence = try await house.evidence(
          attack.payload, attack.arguments(place), label: id, asks: attack.asks, place)
        verdict.equal(evidence.record["attribution"]?["isolation"]?["outputs"], .string("disk"), "outputs")
        try await attack.expect(evidence, &verdict)
        for problem in try await house.rowProblems(of: evidence.job, attack: id) { verdict.fail(problem) }
        guard case .cell(let asks, let arguments, let check) = attack.control else {
          return verdict.fail("\(original) has no control in a cell")
        }
        let control = try await house.evidence(
          attack.payload, (arguments ?? attack.arguments)(place), label: id,
          asks: attack.asks.merging(asks) { _, new in new }, place)
        try await check(control, &verdict)
      }
      do {
        try await eventually("its loop devices are free", limit: .seconds(5).patiently) {
          boundDevices().isSubset(of: before)
        }
      } catch { verdict.fail("loop devices are left: \(boundDevices().subtracting(before))") }
    }
  }

  /// Loop devices that have a file which is an output of Cordon's.
  private static func boundDevices() -> Set<String> {
    Set(
      names(in: "/sys/block").filter { name in
        (try? readText("/sys/block/\(name)/loop/backing_file"))?.contains("/outputs/") ?? false
      })
  }
}
