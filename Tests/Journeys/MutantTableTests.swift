import Foundation
import TestKit
import Testing

@Suite("The table of mutants") struct MutantTableTests {
  /// Without this, a guard that was written anew would no longer be taken away by anybody, and nobody would see it.
  @Test("every guard that ops/mutate takes away is where the table says")
  func texts() throws {
    let list = Process()
    list.executableURL = URL(filePath: "/usr/bin/python3")
    list.arguments = [repository.appending(path: "ops/mutate").path, "--list"]
    let (names, problems) = (Pipe(), Pipe())
    (list.standardOutput, list.standardError) = (names, problems)
    try list.run()
    let shown = try String(decoding: names.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
    let wrong = try String(decoding: problems.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
    list.waitUntilExit()
    #expect(list.terminationStatus == 0, "\(wrong)")
    #expect(shown.contains("grant-routes: NW-17 NW-29 CR-05"))
  }
}
