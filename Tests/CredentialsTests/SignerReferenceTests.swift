import Credentials
import Crypto
import Foundation
import TestKit
import Testing

/// Paths of S3 are generated in the spelling that AWS's clients send, because botocore signs those as they are.
@Suite("Against botocore") struct SignerReferenceTests {
  private struct Question: Encodable {
    var method: String
    var host: String
    var path: String
    var query: String
    var fields: [[String]]
    var body: String
    var unsigned: Bool
    var identifier: String
    var key: String
    var token: String?
    var service: String
    var region: String
    var at: Int
  }

  private static let letters = Array("aZ09-_.~ /&=?+%:@!$'()*,;é漢🙂\"<>[]{}|^`#\\")
  private static let unreserved = CharacterSet(
    charactersIn: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")

  private func encoded(_ text: String) -> String {
    text.addingPercentEncoding(withAllowedCharacters: Self.unreserved)!
  }

  private func word(_ most: Int, _ random: inout Seeded) -> String {
    String((0..<Int.random(in: 0...most, using: &random)).map { _ in Self.letters.randomElement(using: &random)! })
  }

  private func question(_ random: inout Seeded) -> Question {
    let service = ["s3", "s3", "execute-api", "sts", "dynamodb"].randomElement(using: &random)!
    let segments = (0..<Int.random(in: 0...4, using: &random)).map { _ in
      // Between slashes; an encoded slash is no object's key that S3 could tell from a slash.
      encoded(word(6, &random).replacing("/", with: ""))
    }
    let dots = service == "s3" ? segments : segments + ["", ".", "x", "..", "y"].shuffled(using: &random).prefix(2)
    let pairs = (0..<Int.random(in: 0...4, using: &random)).map { _ in
      let name = encoded(word(3, &random)) + "n"
      // A name without `=`, one with nothing behind it, and one with a value; names that occur twice.
      return [name, "\(name)=", "\(name)=\(encoded(word(5, &random)))", "n=\(encoded(word(2, &random)))"]
        .randomElement(using: &random)!
    }
    let values = ["plain", "  two   spaces ", "tab\tand space", "\"quoted  text\"", "", "a,b", "é"]
    var fields = (0..<Int.random(in: 0...4, using: &random)).map { index in
      [
        ["X-Amz-Meta-\(index)", "x-custom", "Content-Type", "X-Custom"].randomElement(using: &random)!,
        values.randomElement(using: &random)!,
      ]
    }
    if Bool.random(using: &random) { fields.append(["User-Agent", "curl/8.0"]) }
    return Question(
      method: ["GET", "PUT", "POST", "DELETE", "HEAD"].randomElement(using: &random)!,
      host: ["bucket.s3.eu-central-1.amazonaws.com", "example.amazonaws.com:8443"].randomElement(using: &random)!,
      path: "/" + dots.joined(separator: "/") + ["", "/", "//"].randomElement(using: &random)!,
      query: pairs.joined(separator: "&"), fields: fields, body: word(20, &random),
      unsigned: service == "s3" && Bool.random(using: &random), identifier: "AKIDEXAMPLE",
      key: "wJalrXUtnFEMI/K7MDENG+\(Int.random(in: 1_000...9_999, using: &random))",
      token: Bool.random(using: &random) ? "FwoGZXIvYXdz/\(Int.random(in: 1_000...9_999, using: &random))==" : nil,
      service: service, region: ["eu-central-1", "us-east-1"].randomElement(using: &random)!,
      at: Int.random(in: 1_000_000_000...2_000_000_000, using: &random))
  }

  @Test func requestsAreSignedAsBotocoreSignsThem() throws {
    var random = Seeded(4)
    let questions = (0..<1_000).map { _ in question(&random) }
    let answers = try Reference(of: "CredentialsTests").ask(questions, as: String.self)
    #expect(answers.count == questions.count)
    var equal = 0
    for (question, answer) in zip(questions, answers) {
      let own = try authorization(question)
      if own == answer { equal += 1 } else { Issue.record("\(question)\nbotocore: \(answer)\nours:     \(own)") }
    }
    print("signer: \(equal) of \(questions.count) requests as botocore signs them")
  }

  private func authorization(_ question: Question) throws -> String {
    let scope = AWSScope(region: question.region, service: question.service, hasSessionToken: question.token != nil)
    let text = [question.identifier, question.key, question.token].compactMap { $0 }.joined(separator: ":")
    let hash = SHA256.hash(data: Data(question.body.utf8)).map { String(format: "%02x", $0) }.joined()
    let request = AWSRequest(
      method: question.method, path: question.path, query: question.query,
      fields: [("Host", question.host)] + question.fields.map { (name: $0[0], value: $0[1]) },
      payload: question.unsigned ? .unsigned : .sha256(hash))
    let signer = try AWSSigner(Secret(text, version: "1"), for: scope)
    let fields = try signer.sign(request, at: Date(timeIntervalSince1970: TimeInterval(question.at)))
    return try #require(fields.first { $0.name == "authorization" }).value
  }
}
