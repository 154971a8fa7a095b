import Store
import Testing

@testable import Worker

@Suite("Which requests go into one statement")
struct GatheringTests {
  private func job(_ number: Int) -> JobID {
    JobID("00000000-0000-7000-8000-00000000000\(number)")!
  }

  @Test("a lone request goes at once")
  func alone() {
    var gathering = Gathering<String>(most: 3)
    #expect(gathering.add("a", job: job(1)) == ["a"])
    #expect(gathering.answered() == nil)
    #expect(gathering.add("b", job: job(2)) == ["b"])
  }

  @Test("what comes while a statement is under way goes together in the next, in order, up to the most")
  func together() {
    var gathering = Gathering<String>(most: 3)
    #expect(gathering.add("a", job: job(1)) == ["a"])
    for (index, name) in ["b", "c", "d", "e"].enumerated() { #expect(gathering.add(name, job: job(index + 2)) == nil) }
    #expect(gathering.answered() == ["b", "c", "d"])
    #expect(gathering.add("f", job: job(7)) == nil)
    #expect(gathering.answered() == ["e", "f"])
    #expect(gathering.answered() == nil)
  }

  @Test("two attempts of one job are never in one statement, whose answer would be about both")
  func oneJobOnce() {
    var gathering = Gathering<String>(most: 3)
    #expect(gathering.add("a", job: job(1)) == ["a"])
    for (name, number) in [("late", 2), ("next", 2), ("other", 3)] {
      #expect(gathering.add(name, job: job(number)) == nil)
    }
    #expect(gathering.answered() == ["late", "other"])
    #expect(gathering.answered() == ["next"])
    #expect(gathering.answered() == nil)
  }
}
