import Foundation
import Testing

@testable import Worker

@Suite("Notes of published directories")
struct PublicationsTests {
  @Test("what a killed worker was writing is gone with the next one, and its notes are not")
  func leftovers() throws {
    let state = FileManager.default.temporaryDirectory.appending(path: "cordon-publications-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: state) }
    let notes = state.appending(path: "publications")
    try FileManager.default.createDirectory(at: notes, withIntermediateDirectories: true)
    let note = "01a21761-cfc7-76d0-8be8-11ee7d79185b.2"
    for name in [note, ".dat.nosync4242.a1B2c3", "01a21761-cfc7-76d0-8be8-11ee7d79185b", "x.1", note + ".tmp"] {
      try Data().write(to: notes.appending(path: name))
    }
    _ = try Publications(stateDirectory: state.path)
    #expect(try FileManager.default.contentsOfDirectory(atPath: notes.path) == [note])
  }
}
