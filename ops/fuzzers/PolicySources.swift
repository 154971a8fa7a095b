import Jobs
import Policies

/// A policy as somebody wrote it, in YAML or JSON.
enum PolicySources: Fuzzer {
  static var seeds: [[UInt8]] {
    [
      "version: 1\nceilings:\n  memory: 512MiB # more\n  cpus: 1.5\nruntimes: [bash, \"exec\"]\n",
      "{\"version\": 1,\n\t\"waivers\": [\"uids\"], \"outputs\": {\"on\": \"disk\"}}", "a: &x [1]\nb: *x\n",
      "- - - a\n", "a: |\n  b\n c: no\n",
    ].map { Array($0.utf8) }
  }

  static var words: [[UInt8]] {
    ["version: 1\n", "ceilings:", "\n  ", "- ", "{", "[", "&a ", "*a", "!!str ", "<<: ", "? ", "'", "---\n"].map {
      Array($0.utf8)
    }
  }

  static func run(_ bytes: [UInt8]) {
    guard let source = try? PolicySource(String(decoding: bytes, as: UTF8.self)) else { return }
    guard let canonical = try? CanonicalJSON.text(source.value) else { return }
    // The canonical text is JSON, and JSON is read as what it says.
    guard let again = try? PolicySource(canonical) else {
      // The root may be a scalar that only quotes tell from a number, and a name may be one that members cannot have.
      return expect(
        source.value.object == nil || canonical.utf8.count > PolicySource.mostBytes,
        "canonical text is no policy text: \(canonical)")
    }
    expect((try? CanonicalJSON.text(again.value)) == canonical, "canonical text is its own: \(canonical)")
  }
}
