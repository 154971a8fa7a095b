import Destinations
import NIOCore
import Testing

@testable import Broker

@Suite struct RecentNamesTests {
  private let now = NIODeadline.uptimeNanoseconds(1_000_000_000)

  @Test func anAnswerIsUsedForItsLifeAndNotLonger() throws {
    let address = try #require(IPAddress("93.184.216.34"))
    var names = RecentNames()
    #expect(names.addresses(of: "a.test", at: now) == nil)
    names.keep([address], of: "a.test", at: now)
    #expect(names.addresses(of: "a.test", at: now) == [address])
    #expect(names.addresses(of: "b.test", at: now) == nil)
    #expect(names.addresses(of: "a.test", at: now + RecentNames.life - .nanoseconds(1)) == [address])
    #expect(names.addresses(of: "a.test", at: now + RecentNames.life) == nil)
  }

  @Test func aNewAnswerTakesThePlaceOfTheOldOne() throws {
    let (first, second) = (try #require(IPAddress("93.184.216.34")), try #require(IPAddress("93.184.216.35")))
    var names = RecentNames()
    names.keep([first], of: "a.test", at: now)
    names.keep([second], of: "a.test", at: now + RecentNames.life)
    #expect(names.addresses(of: "a.test", at: now + RecentNames.life) == [second])
  }
}
