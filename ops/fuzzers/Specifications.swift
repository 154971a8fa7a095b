import FoundationEssentials
import Jobs

/// A job's specification, which its producer wrote.
enum Specifications: Fuzzer {
  private static let digest = "sha256:" + String(repeating: "0a", count: 32)

  static var seeds: [[UInt8]] {
    [
      #"{"runtime":"bash","code":"date","args":["a"],"env":{"A":"b"},"stdin":"x"}"#,
      #"{"runtime":"python3","code":{"path":"a/b.py"},"params":{"a":[1,2.5,1e2]},"labels":{"k":"v"}}"#,
      #"{"runtime":"exec","argv":["/usr/bin/true"],"inputs":{"a":{"blob":"\#(digest)"},"b":{"text":"c"}}}"#,
      #"{"runtime":"bash","code":{"text":"a","path":"b"}}"#, #"{"runtime":"perl"}"#,
    ].map { Array($0.utf8) }
  }

  static var words: [[UInt8]] {
    [
      "runtime", "exec", "python3", "bash", "argv", "code", "text", "blob", "path", "args", "env", "stdin", "inputs",
      "params", "labels", digest,
    ].map { Array("\"\($0)\"".utf8) } + JSONValues.words
  }

  static func run(_ bytes: [UInt8]) {
    guard var specification = try? JSONDecoder().decode(JobSpecification.self, from: Data(bytes)) else { return }
    guard let text = try? JSONEncoder().encode(specification),
      var again = try? JSONDecoder().decode(JobSpecification.self, from: text)
    else { fatalError("a specification survives a round trip") }
    expect(
      JSONValues.same(specification.params ?? .null, again.params ?? .null), "parameters survive a round trip")
    (specification.params, again.params) = (nil, nil)
    expect(specification == again, "a specification survives a round trip: \(specification) became \(again)")
    for source in [specification.code].compactMap({ $0 }) + specification.inputs.values {
      guard case .blob(let digest) = source else { continue }
      let digits = digest.description.utf8.dropFirst(7)
      expect(
        Array(digest.description.utf8.prefix(7)) == Array("sha256:".utf8) && digits.count == 64
          && digits.allSatisfy { Array("0123456789abcdef".utf8).contains($0) }, "a digest has one spelling")
    }
  }
}
