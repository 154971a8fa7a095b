/// A locked list of Python packages: each with its version and the digests its files may have. Nothing else may stand in one: no
/// option, no URL, no marker, no file; whoever reads it does not have to trust who wrote it.
///
/// The form is that of pip's requirements files: `name==version --hash=sha256:…`, a line each, and lines may be continued with a
/// backslash. Comments and empty lines are passed over.
public struct LockedRequirements: Sendable, Equatable {
  public struct Package: Sendable, Equatable {
    public let name: String
    public let version: String
    public let digests: [Digest]
  }

  public struct Problem: Error, Equatable, CustomStringConvertible {
    /// From 1.
    public let line: Int
    public let reason: String
    public var description: String { "line \(line): \(reason)" }
  }

  public let packages: [Package]

  /// Bytes of a list, and packages in it.
  public static let longest = 64 << 10
  public static let most = 256

  public init(_ text: String) throws(Problem) {
    guard text.utf8.count <= Self.longest else { throw Problem(line: 1, reason: "more than \(Self.longest) bytes") }
    var packages: [Package] = []
    var (gathered, begins) = ("", 1)
    // To Swift a carriage return and a line feed are one character, which is neither.
    let lines = text.replacing("\r\n", with: "\n").split(separator: "\n", omittingEmptySubsequences: false)
    for (index, line) in lines.enumerated() {
      if gathered.isEmpty { begins = index + 1 }
      if gathered.isEmpty, line.drop(while: { $0 == " " || $0 == "\t" }).hasPrefix("#") { continue }
      if line.hasSuffix("\\") {
        gathered += line.dropLast() + " "
        continue
      }
      gathered += line
      defer { gathered = "" }
      let words = gathered.split { $0 == " " || $0 == "\t" }
      guard let first = words.first else { continue }
      packages.append(try Self.package(first, words.dropFirst(), begins))
      guard packages.count <= Self.most else { throw Problem(line: begins, reason: "more than \(Self.most) packages") }
    }
    guard gathered.isEmpty else { throw Problem(line: begins, reason: "ends with a backslash") }
    guard !packages.isEmpty else { throw Problem(line: 1, reason: "names no package") }
    self.packages = packages
  }

  private static func package(
    _ first: Substring, _ rest: ArraySlice<Substring>, _ line: Int
  ) throws(Problem) -> Package {
    let parts = first.split(separator: "=", omittingEmptySubsequences: false)
    guard parts.count == 3, parts[1].isEmpty, isName(parts[0]), isVersion(parts[2]) else {
      throw Problem(line: line, reason: "is no name==version")
    }
    var digests: [Digest] = []
    for word in rest {
      guard word.hasPrefix("--hash="), let digest = Digest(String(word.dropFirst("--hash=".count))) else {
        throw Problem(line: line, reason: "has something else than --hash=sha256: and 64 hex digits")
      }
      digests.append(digest)
    }
    guard !digests.isEmpty else { throw Problem(line: line, reason: "has no --hash=sha256:") }
    return Package(name: String(parts[0]), version: String(parts[2]), digests: digests)
  }

  /// Digests that a fetched file may have.
  public var digests: Set<Digest> { Set(packages.flatMap(\.digests)) }

  /// In one spelling, for the program that fetches.
  public var text: String {
    packages.map { package in
      "\(package.name)==\(package.version) "
        + package.digests.map { "--hash=\($0)" }.joined(separator: " ") + "\n"
    }.joined()
  }

  private static func isName(_ text: Substring) -> Bool {
    guard let first = text.utf8.first, isAlphanumeric(first), text.utf8.count <= 128 else { return false }
    return text.utf8.allSatisfy { isAlphanumeric($0) || "._-".utf8.contains($0) }
  }

  private static func isVersion(_ text: Substring) -> Bool {
    guard let first = text.utf8.first, isAlphanumeric(first), text.utf8.count <= 64 else { return false }
    return text.utf8.allSatisfy { isAlphanumeric($0) || ".+!-_".utf8.contains($0) }
  }

  private static func isAlphanumeric(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
  }
}
