import Testing

/// The list of attacks against the real binary. Cases run together in `Proving`; each test reports its own.
@Suite("Attacks") struct AttackTests {
  private func report(_ attack: AttackCase) async throws {
    let failures = try await Proving.shared.value[attack.id] ?? ["it did not run"]
    for failure in failures { Issue.record("\(attack.id): \(failure)") }
  }

  @Test("on files and outputs", arguments: Catalogue.selected(Catalogue.filesystem))
  func filesystem(_ attack: AttackCase) async throws { try await report(attack) }

  @Test("on processes and resources", arguments: Catalogue.selected(Catalogue.processes))
  func processes(_ attack: AttackCase) async throws { try await report(attack) }

  @Test("on the kernel", arguments: Catalogue.selected(Catalogue.kernel))
  func kernel(_ attack: AttackCase) async throws { try await report(attack) }

  @Test("on operation", arguments: Catalogue.selected(Catalogue.operation))
  func operation(_ attack: AttackCase) async throws { try await report(attack) }

  @Test("on the network and its only exit", arguments: Catalogue.selected(Catalogue.network))
  func network(_ attack: AttackCase) async throws { try await report(attack) }

  @Test("on credentials", arguments: Catalogue.selected(Catalogue.credentials))
  func credentials(_ attack: AttackCase) async throws { try await report(attack) }

  @Test("every entry of the list has a case or a reason, and no id is used twice")
  func coverage() {
    let covered = Set(Catalogue.all.map { String($0.id.prefix(5)) })
    for id in Catalogue.required {
      #expect(covered.contains(id) != (NotApplicable.entries[id] != nil), "\(id) has a case, or a reason, not both")
    }
    for id in Set(NotApplicable.parts.keys) { #expect(covered.contains(id), "\(id) has no case") }
    let ids = Set(Catalogue.all.map(\.id))
    for id in Set(WorkerUser.leftOut.keys).union(WorkerUser.partsLeftOut.keys) {
      #expect(ids.contains(id), "\(id) is left out and is no case")
    }
    #expect(ids.count == Catalogue.all.count, "an id is used twice")
  }
}
