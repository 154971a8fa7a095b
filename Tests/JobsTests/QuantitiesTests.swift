import Jobs
import Testing

@Suite("Sizes and spans as people write them")
struct QuantitiesTests {
  @Test(
    "sizes",
    arguments: [
      ("1", 1), ("512", 512), ("1B", 1), ("1KiB", 1024), ("256MiB", 268_435_456), ("1GiB", 1_073_741_824),
      ("1kB", 1000), ("2MB", 2_000_000), ("3GB", 3_000_000_000), ("1TiB", 1_099_511_627_776),
    ] as [(String, Int64)])
  func sizes(text: String, bytes: Int64) {
    #expect(ByteCount(text)?.bytes == bytes)
  }

  @Test(
    "what is no size",
    arguments: [
      "", "0", "-1", "1.5MiB", "12XB", "MiB", "1 MiB", "1mib", "1e6", "0x10", "١MiB", "99999999999999999999",
      "9223372036854775807KiB", "1MiB ", "+1",
    ])
  func badSizes(text: String) {
    #expect(ByteCount(text) == nil)
  }

  @Test(
    "spans",
    arguments: [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("1d", 86_400_000)]
      as [(String, Int64)])
  func spans(text: String, milliseconds: Int64) {
    #expect(TimeSpan(text)?.milliseconds == milliseconds)
  }

  @Test("what is no span", arguments: ["", "5", "0s", "-5s", "1.5h", "5 m", "5min", "1w", "99999999999999999999ms"])
  func badSpans(text: String) {
    #expect(TimeSpan(text) == nil)
  }
}
