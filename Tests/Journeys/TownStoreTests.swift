import Foundation
import TestKit
import Testing

extension TownTests {
  private static let s3 = """
    import boto3, botocore, sys
    from botocore.config import Config
    url, authority, region, key, secret, token = sys.argv[1:7]
    client = boto3.client(
        "s3", endpoint_url=url, verify=authority, region_name=region, aws_access_key_id=key,
        aws_secret_access_key=secret, aws_session_token=token,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}))
    try:
        exec(sys.argv[7])
    except botocore.exceptions.ClientError as error:
        print(error.response["Error"]["Code"])
    """

  private func boto3(_ town: Town, _ code: String, secret: String? = nil, region: String? = nil) async throws -> String
  {
    let store = try await town.store()
    let ours = store.credentials
    let answer = try await python(
      town, Self.s3,
      [
        store.url, town.certificates.caFile, region ?? ours.region, ours.key, secret ?? ours.secret, ours.token, code,
      ])
    #expect(answer.status == 0, "\(answer.stderr)")
    return answer.text.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  @Test("boto3 stores, reads, lists and deletes an object, and how it signed can be read")
  func objects() async throws {
    let town = try await Self.shared.value
    let store = try await town.store()
    let code = """
      client.put_object(Bucket="books", Key="2026/a b+c.csv", Body=b"x,y\\r\\n1,2\\r\\n")
      print(client.get_object(Bucket="books", Key="2026/a b+c.csv")["Body"].read())
      print([entry["Key"] for entry in client.list_objects_v2(Bucket="books", Prefix="2026/")["Contents"]])
      """
    #expect(try await boto3(town, code) == "b'x,y\\r\\n1,2\\r\\n'\n['2026/a b+c.csv']")
    #expect(store.object("books/2026/a b+c.csv") == Data("x,y\r\n1,2\r\n".utf8))
    let put = try #require(try store.requests().last { $0.method == "PUT" })
    #expect(put.authorization?.hasPrefix("AWS4-HMAC-SHA256 Credential=\(store.credentials.key)/") == true)
    #expect(put.headers["x-amz-security-token"] == store.credentials.token && put.headers["x-amz-date"] != nil)
    try store.put("books/rates.csv", Data("1.07".utf8))
    let read = #"print(client.get_object(Bucket="books", Key="rates.csv")["Body"].read())"#
    #expect(try await boto3(town, read) == "b'1.07'")
    #expect(try await boto3(town, #"client.delete_object(Bucket="books", Key="rates.csv")"#) == "")
    #expect(try await boto3(town, read) == "NoSuchKey")
    #expect(store.object("books/rates.csv") == nil)
  }

  @Test("what is signed with another secret, for another region, or not at all is refused")
  func badSignatures() async throws {
    let town = try await Self.shared.value
    let put = #"client.put_object(Bucket="books", Key="bad", Body=b"x")"#
    #expect(try await boto3(town, put, secret: "another") == "SignatureDoesNotMatch")
    #expect(try await boto3(town, put, region: "us-west-2") == "AuthorizationHeaderMalformed")
    let store = try await town.store()
    #expect(try await ask(town, ["--data", "x", "--request", "PUT", store.url + "/books/bad"]).status == "403")
    #expect(store.object("books/bad") == nil)
    // By curl's own signer, which is not botocore's.
    func curled(_ secret: String) async throws -> String {
      try await ask(
        town,
        [
          "--aws-sigv4", "aws:amz:\(store.credentials.region):s3", "--user", "\(store.credentials.key):\(secret)",
          "--header", "x-amz-security-token: \(store.credentials.token)", "--upload-file", "/etc/debian_version",
          "--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD", store.url + "/books/curled",
        ]
      ).status
    }
    #expect(try await curled("another") == "403")
    #expect(try await curled(store.credentials.secret) == "200")
  }
}
