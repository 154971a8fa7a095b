import Jobs
import Testing

@testable import Policies

/// Vectors of RFC 8785, sections 3.2.2 and 3.2.3 and appendix B.
@Suite struct CanonicalJSONTests {
  @Test(
    arguments: [
      (0x0000_0000_0000_0000, "0"), (0x8000_0000_0000_0000, "0"), (0x0000_0000_0000_0001, "5e-324"),
      (0x8000_0000_0000_0001, "-5e-324"), (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
      (0x4340_0000_0000_0000, "9007199254740992"), (0xc340_0000_0000_0000, "-9007199254740992"),
      (0x4430_0000_0000_0000, "295147905179352830000"), (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
      (0x44b5_2d02_c7e1_4af6, "1e+23"), (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
      (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"), (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
      (0x444b_1ae4_d6e2_ef50, "1e+21"), (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
      (0x3eb0_c6f7_a0b5_ed8d, "0.000001"), (0x41b3_de43_5555_5553, "333333333.3333332"),
      (0x41b3_de43_5555_5557, "333333333.33333343"), (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
      (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
    ] as [(UInt64, String)])
  func numbers(bits: UInt64, text: String) throws {
    #expect(try CanonicalJSON.text(.number(Double(bitPattern: bits))) == text)
  }

  @Test func membersAreSortedByCodeUnits() throws {
    let names = ["\u{20ac}", "\r", "\u{fb33}", "1", "\u{1f600}", "\u{80}", "\u{f6}"]
    let value = JSONValue.object(Dictionary(uniqueKeysWithValues: names.map { ($0, .null) }))
    #expect(
      try CanonicalJSON.text(value)
        == "{\"\\r\":null,\"1\":null,\"\u{80}\":null,\"\u{f6}\":null,\"\u{20ac}\":null,\"\u{1f600}\":null,\"\u{fb33}\":null}"
    )
  }

  @Test func textsAreEscapedWhereTheyMustBe() throws {
    #expect(
      try CanonicalJSON.text(.string("\u{20ac}$\u{f}\u{a}A'\u{42}\u{22}\u{5c}\\\"/"))
        == "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"")
  }

  @Test func whatNoDoubleIsIsRefused() {
    #expect(throws: CanonicalJSON.Inexact(number: "9007199254740993")) {
      try CanonicalJSON.text(.integer(9_007_199_254_740_993))
    }
  }
}
