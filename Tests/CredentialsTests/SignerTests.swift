import Credentials
import Crypto
import Foundation
import Testing

/// The examples that AWS publishes: its Signature Version 4 test suite, the IAM user guide's ListUsers, and "Examples:
/// Signature Calculations in AWS Signature Version 4" of the S3 API reference.
@Suite struct SignerTests {
  private func signature(
    _ request: AWSRequest, _ service: String = "service", key: String = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    at time: TimeInterval = 1_440_938_160
  ) throws -> String {
    let identifier = service == "s3" ? "AKIAIOSFODNN7EXAMPLE" : "AKIDEXAMPLE"
    let signer = try AWSSigner(
      Secret("\(identifier):\(key)", version: "1"), for: AWSScope(region: "us-east-1", service: service))
    let fields = try signer.sign(request, at: Date(timeIntervalSince1970: time))
    let authorization = try #require(fields.first { $0.name == "authorization" }).value
    return String(authorization.suffix(64))
  }

  private func request(
    _ method: String = "GET", _ path: String = "/", query: String = "", _ fields: [(String, String)] = [],
    host: String = "example.amazonaws.com", body: String = ""
  ) -> AWSRequest {
    AWSRequest(
      method: method, path: path, query: query, fields: [("Host", host)] + fields.map { (name: $0.0, value: $0.1) },
      payload: .sha256(SHA256.hash(data: Data(body.utf8)).map { String(format: "%02x", $0) }.joined()))
  }

  @Test func theTestSuitesRequests() throws {
    let cases: [(AWSRequest, String)] = [
      (request(), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
      (
        request(query: "Param2=value2&Param1=value1"),
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"
      ),
      (request("GET", "/ሴ"), "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
      (
        request("GET", "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"),
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"
      ),
      (request("GET", "/./"), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
      (request("GET", "//"), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
      (request("GET", "/example/.."), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
      (request("POST"), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
      (
        request("GET", "/", [("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")]),
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"
      ),
      (
        request("POST", "/", [("Content-Type", "application/x-www-form-urlencoded")], body: "Param1=value1"),
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
      ),
    ]
    for (request, expected) in cases { #expect(try signature(request) == expected, "\(request)") }
    let listUsers = request(
      query: "Action=ListUsers&Version=2010-05-08",
      [("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")], host: "iam.amazonaws.com")
    #expect(
      try signature(listUsers, "iam") == "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7")
  }

  @Test func theRequestsOfS3() throws {
    let host = "examplebucket.s3.amazonaws.com"
    let cases: [(AWSRequest, String)] = [
      (
        request("GET", "/test.txt", [("Range", "bytes=0-9")], host: host),
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
      ),
      (
        request(
          "PUT", "/test%24file.text",
          [("Date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")], host: host,
          body: "Welcome to Amazon S3."), "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
      ),
      (
        request(query: "lifecycle", host: host), "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
      ),
      (
        request(query: "max-keys=2&prefix=J", host: host),
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
      ),
    ]
    for (request, expected) in cases {
      let signature = try signature(request, "s3", key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", at: 1_369_353_600)
      #expect(signature == expected, "\(request)")
    }
  }

  @Test func aRequestThatTwoServersMayReadDifferentlyIsNotSigned() throws {
    for request in [
      request("GET", "x"), request("GET", "/%2"), request("GET", "/%zz"), request(query: "a=%"),
      request(query: "a+b=c"),
      request(query: "X-Amz-Signature=1"), request(query: "a=1&x%2Damz-credential=1"),
      request("GET", "/", [("Host", "other.example")]), request("GET", "/", [("X-A", "a\nb")]),
      request("GET", "/", [("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")]),
      request("GET", "/", [("Content-Encoding", "aws-chunked,gzip")]),
      AWSRequest(method: "GET", path: "/", fields: [], payload: AWSRequest.emptyPayload),
      AWSRequest(method: "GET", path: "/", fields: [("Host", "h")], payload: .sha256("abc")),
      AWSRequest(method: "GET", path: "/", fields: [("Host", "h")], payload: .unsigned),
    ] {
      #expect(throws: CredentialError.self, "\(request)") { try signature(request) }
    }
    #expect(throws: CredentialError.self) { try signature(request("GET", "/a%2Fb"), "s3") }
    let unsigned = AWSRequest(method: "GET", path: "/", fields: [("Host", "h")], payload: .unsigned)
    #expect(try signature(unsigned, "s3").utf8.count == 64)
  }

  @Test("NW-34: what a request says of its own signature is neither signed nor kept")
  func ownFields() throws {
    let brought = request(
      "GET", "/",
      [
        ("Authorization", "AWS4-HMAC-SHA256 evil"), ("X-Amz-Date", "19700101T000000Z"),
        ("x-amz-security-token", "evil"),
      ])
    #expect(try signature(brought) == signature(request()))
  }

  @Test("CR-09: a session's token is sent only where the definition says so")
  func sessions() throws {
    func fields(_ secret: String, session: Bool) throws -> [(name: String, value: String)] {
      let scope = AWSScope(region: "us-east-1", service: "s3", hasSessionToken: session)
      return try AWSSigner(Secret(secret, version: "1"), for: scope).sign(request(), at: Date(timeIntervalSince1970: 0))
    }
    let token = try fields("AKID:key-key-key:token/token", session: true)
    #expect(token.contains { $0.name == "x-amz-security-token" && $0.value == "token/token" })
    #expect(
      token.last?.value.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,") == true)
    #expect(try !fields("AKID:key-key-key", session: false).contains { $0.name == "x-amz-security-token" })
    for (secret, session) in [
      ("AKID:key-key-key:token/token", false), ("AKID:key-key-key", true), ("AKID", false), ("AKID:short", false),
      ("AK ID:key-key-key", false), ("AKID:key\nkey-key", false), (":key-key-key", false), ("A:key-key-key:t:u", true),
    ] {
      let error = #expect(throws: CredentialError.self) { try fields(secret, session: session) }
      #expect(error?.reason.contains("key-key") == false)
    }
  }
}
