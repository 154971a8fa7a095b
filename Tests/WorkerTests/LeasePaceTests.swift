import Testing

@testable import Worker

@Suite struct LeasePaceTests {
  @Test("a heartbeat that is never answered leaves time for the next", arguments: [2.0, 3, 5, 15, 60, 3_600])
  func secondHeartbeat(lease: Double) {
    let pace = LeasePace(leaseSeconds: lease)
    // Asked one interval after the last that was answered, it holds up the next until it is given up with its connection.
    let next = pace.heartbeatInterval + pace.statementTimeout + pace.cancelGrace
    #expect(.seconds(lease) - next >= .seconds(lease) / 10)
    #expect(pace.heartbeatInterval > .zero && pace.cancelGrace > .zero)
    #expect(pace.statementTimeout >= pace.cancelGrace * 3)
  }
}
