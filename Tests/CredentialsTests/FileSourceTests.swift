import Credentials
import Foundation
import Testing

@testable import struct Credentials.FileSource

@Suite struct FileSourceTests {
  private func refusal(_ path: String) -> CredentialError? {
    do {
      _ = try FileSource(path: path).read()
      return nil
    } catch {
      return error
    }
  }

  @Test func newlinesAtTheEndAreNotPartOfASecret() throws {
    let place = try Place()
    for text in ["s3cret-token", "s3cret-token\n", "s3cret-token\r\n", "s3cret-token\n\n"] {
      #expect(try FileSource(path: place.write(text, to: "token")).read() == Secret("s3cret-token", version: ""))
    }
    #expect(
      try FileSource(path: place.write("  two lines\nof it ", to: "token")).read()
        == Secret("  two lines\nof it ", version: ""))
  }

  @Test("CR-20: a secret that is rotated is used from the next time on, and its version says so")
  func rotation() async throws {
    let place = try Place()
    let source = FileSource(path: try place.write("the-first-secret", to: "token"))
    let first = try await source.fetch(for: attempt())
    try place.write("the-second-secret", to: "token")
    let second = try await source.fetch(for: attempt())
    #expect(try second == Secret("the-second-secret", version: "") && first.version != second.version)
    #expect(first.version.hasPrefix("file "))
  }

  @Test func aLinkAFileForEverybodyAndWhatIsNoFileAreRefusedWithTheFix() throws {
    let place = try Place()
    let path = try place.write("s3cret-token", to: "token")
    #expect(refusal(path) == nil)
    for mode in [0o604, 0o602, 0o601, 0o620, 0o644, 0o660, 0o777] {
      let error = refusal(try place.write("s3cret-token", to: "open", mode: mode))
      #expect(error?.kind == .refused && error?.reason.contains("fix: chmod 0600") == true, "\(String(mode, radix: 8))")
    }
    for mode in [0o400, 0o440, 0o640] {
      #expect(refusal(try place.write("s3cret-token", to: "closed", mode: mode)) == nil)
    }
    #expect(symlink(path, place.path + "/link") == 0)
    #expect(refusal(place.path + "/link")?.reason.contains("symbolic link") == true)
    #expect(refusal(place.path)?.reason.contains("no regular file") == true)
    // Nor does a pipe that nobody writes into hold the worker up.
    #expect(mkfifo(place.path + "/pipe", 0o600) == 0)
    #expect(refusal(place.path + "/pipe")?.reason.contains("no regular file") == true)
    #expect(refusal(place.path + "/none")?.kind == .unavailable)
  }

  @Test func aFileOfAnotherUserIsRefused() {
    #expect(throws: Never.self) { try FileSource.judge(mode: S_IFREG | 0o600, owner: 0, own: 1_000) }
    #expect(throws: Never.self) { try FileSource.judge(mode: S_IFREG | 0o600, owner: 1_000, own: 1_000) }
    #expect(throws: CredentialError.self) { try FileSource.judge(mode: S_IFREG | 0o600, owner: 1_001, own: 1_000) }
    #expect(throws: CredentialError.self) { try FileSource.judge(mode: S_IFREG | 0o600, owner: 1_001, own: 0) }
  }

  @Test func aFileThatHoldsNoSecretIsRefusedWithoutSayingWhatItHolds() throws {
    let place = try Place()
    for text in ["", "\n", "tiny\n", String(repeating: "x", count: Secret.mostBytes + 1)] {
      let error = refusal(try place.write(text, to: "token"))
      #expect(error?.kind == .unusable)
      #expect(error?.reason.contains("tiny") == false && error?.reason.contains("xxx") == false)
    }
    #expect(refusal(try place.write(String(repeating: "x", count: Secret.mostBytes) + "\r\n", to: "token")) == nil)
  }
}
