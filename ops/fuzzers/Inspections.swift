@testable import Sandbox

/// The transcript of the boundary test, which comes out of a cell that may not confine as it should.
enum Inspections: Fuzzer {
  private static let good = """
    @@ fd
    lr-x------ 1 200000 200000 64 Jan  1 00:00 0 -> /dev/null
    @@ status
    Uid:\t200000\t200000\t200000\t200000
    CapEff:\t0000000000000000
    NoNewPrivs:\t1
    Seccomp:\t2
    @@ mountinfo
    1 0 0:1 / / ro,nosuid,nodev - tmpfs tmpfs ro
    @@ interfaces
    Inter-|   Receive
     face |bytes
        lo:       0
    @@ namespaces
    net net:[14]
    @@ try write:/output/probe
    done
    @@ try connect
    no 1
    """

  static var seeds: [[UInt8]] { [Array(good.utf8)] }

  static func run(_ bytes: [UInt8]) {
    let own = ["net": "net:[1]", "pid": "pid:[2]"]
    func findings(_ bytes: some Collection<UInt8>) -> [Finding] {
      Inspection(transcript: String(decoding: bytes, as: UTF8.self))
        .findings(uid: 200_000, namespaces: ["net", "pid"], own: own)
    }
    let end = Array("\n\n@@ end\n".utf8)
    let nothing = findings(end)
    expect(nothing.allSatisfy { !$0.holds }, "what was not seen does not hold")
    expect(
      findings(bytes + end).map(\.control) == nothing.map(\.control), "every control is judged whatever was printed")
    let found = findings(bytes)
    expect(found.count == 1 ? !found[0].holds : found.count == nothing.count, "half a transcript is none")
  }
}
