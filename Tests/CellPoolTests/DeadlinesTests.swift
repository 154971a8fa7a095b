import Testing

@testable import CellPool

@Suite struct DeadlinesTests {
  @Test func theEarliestComesFirst() {
    var deadlines = Deadlines<String, Int>()
    for (name, moment) in [("c", 30), ("a", 10), ("d", 40), ("b", 20)] { deadlines.set(name, moment) }
    #expect(deadlines.next == 10)
    #expect(deadlines.due(9) == [])
    #expect(deadlines.due(30) == ["a", "b", "c"])
    #expect(deadlines.next == 40)
    #expect(deadlines.count == 1)
  }

  @Test func theLatestWordStands() {
    var deadlines = Deadlines<String, Int>()
    deadlines.set("a", 10)
    deadlines.set("a", 50)
    deadlines.set("b", 20)
    deadlines.set("b", nil)
    #expect(deadlines.next == 50)
    #expect(deadlines.due(49) == [])
    deadlines.set("a", 10)
    deadlines.set("a", 50)
    deadlines.set("a", 10)
    #expect(deadlines.due(100) == ["a"], "once, whatever was said before")
    #expect(deadlines.due(100) == [])
    #expect(deadlines.next == nil)
  }

  /// Against a list that is searched: seeded, so that a failure can be had again.
  @Test(arguments: 1...20 as ClosedRange<UInt64>) func agreesWithASearchedList(seed: UInt64) {
    var state = seed
    func random(_ bound: UInt64) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((state >> 33) % bound)
    }
    var deadlines = Deadlines<Int, Int>()
    var list: [Int: Int] = [:]
    for now in 0..<2_000 {
      let (identifier, moment) = (random(50), now + random(100))
      let word: Int? = random(5) == 0 ? nil : moment
      deadlines.set(identifier, word)
      list[identifier] = word
      #expect(deadlines.next == list.values.min())
      let due = deadlines.due(now)
      #expect(Set(due) == Set(list.filter { $0.value <= now }.keys))
      list = list.filter { $0.value > now }
      #expect(deadlines.count == list.count)
    }
  }
}
