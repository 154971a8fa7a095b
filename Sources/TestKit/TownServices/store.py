"""As much of S3 as stores and reads objects by path, for requests that are signed as they should be.

Botocore computes what the signature has to be, of the request as it came; this host only compares. So a signer other than
botocore's is checked by botocore, and one that is botocore's by what it was told: region, service, key, token, time.
Objects are files whose names are the percent-encoded BUCKET/KEY.

usage: store.py ADDRESS PORT CERTIFICATE KEY RECORD OBJECTS CREDENTIALS     the last a JSON file
"""

import datetime
import hashlib
import hmac
import json
import os
import sys
import urllib.parse
from xml.sax.saxutils import escape

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import host

# How far the clocks may be apart ("RequestTimeTooSkewed" in S3's list of error codes).
SKEW = datetime.timedelta(minutes=15)


class Refused(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Store(host.Handler):
    def answer(self, body):
        try:
            self.verify(body)
        except Refused as refusal:
            return self.fail(403, refusal.code, str(refusal))
        path, _, query = self.path.partition("?")
        name = urllib.parse.unquote(path).lstrip("/")
        bucket, _, key = name.partition("/")
        if not key:
            return self.listing(bucket, urllib.parse.parse_qs(query)) if self.command == "GET" else self.fail(
                405, "MethodNotAllowed", "a bucket is there as soon as it is named")
        file = os.path.join(self.server.objects, urllib.parse.quote(name, safe=""))
        if self.command == "PUT":
            content = self.plain(body)
            with open(file, "wb") as object:
                object.write(content)
            return 200, {"ETag": self.tag(content)}, b""
        if not os.path.exists(file):
            return self.fail(404, "NoSuchKey", "The specified key does not exist.")
        if self.command == "DELETE":
            os.unlink(file)
            return 204, {}, b""
        with open(file, "rb") as object:
            content = object.read()
        return 200, {"ETag": self.tag(content), "Content-Type": "binary/octet-stream"}, content

    def verify(self, body):
        ours = self.server.credentials
        algorithm, _, rest = self.headers.get("Authorization", "").partition(" ")
        if algorithm != "AWS4-HMAC-SHA256":
            raise Refused("AccessDenied", "not signed")
        words = dict(part.strip().split("=", 1) for part in rest.split(","))
        key, date, region, service, _ = words["Credential"].split("/")
        if key != ours["key"]:
            raise Refused("InvalidAccessKeyId", "nobody has this key")
        if (region, service) != (ours["region"], "s3"):
            raise Refused("AuthorizationHeaderMalformed", f"signed for {region}/{service}")
        if self.headers.get("X-Amz-Security-Token") != ours["token"]:
            raise Refused("InvalidToken", "not the session's token")
        moment = self.headers.get("X-Amz-Date", "")
        when = datetime.datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        if abs(datetime.datetime.now(datetime.timezone.utc) - when) > SKEW or not moment.startswith(date):
            raise Refused("RequestTimeTooSkewed", moment)
        signed = words["SignedHeaders"].split(";")
        # What is sent and not signed could be changed on the way (S3 wants host and every x-amz- header signed).
        unsigned = [name for name in self.headers if name.lower().startswith("x-amz-") and name.lower() not in signed]
        if unsigned or "host" not in signed:
            raise Refused("AccessDenied", f"not signed: {unsigned}")
        digest = self.headers.get("X-Amz-Content-SHA256", "")
        if not digest.startswith(("UNSIGNED-", "STREAMING-")) and digest != hashlib.sha256(body).hexdigest():
            raise Refused("XAmzContentSHA256Mismatch", "another body than the one that was signed")
        request = AWSRequest(
            self.command, f"https://{self.headers['Host']}{self.path}", {name: self.headers[name] for name in signed})
        request.context["timestamp"] = moment
        signer = S3SigV4Auth(Credentials(ours["key"], ours["secret"], ours["token"]), "s3", region)
        expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        if not hmac.compare_digest(expected, words["Signature"]):
            raise Refused("SignatureDoesNotMatch", "signed with another secret, or not what came")

    def plain(self, body):
        """Without the framing of `aws-chunked`, in which boto3 puts a checksum behind the body."""
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return body
        content = b""
        while True:
            head, _, body = body.partition(b"\r\n")
            size = int(head.split(b";")[0], 16)
            if not size:
                return content
            content, body = content + body[:size], body[size + 2:]

    def listing(self, bucket, query):
        prefix = f"{bucket}/" + query.get("prefix", [""])[0]
        names = sorted(urllib.parse.unquote(file) for file in os.listdir(self.server.objects))
        keys = [name[len(bucket) + 1:] for name in names if name.startswith(prefix)]
        content = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys)
        return 200, {"Content-Type": "application/xml"}, (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>'
            f"<Name>{escape(bucket)}</Name><KeyCount>{len(keys)}</KeyCount><IsTruncated>false</IsTruncated>{content}"
            "</ListBucketResult>").encode()

    def fail(self, status, code, message):
        return status, {"Content-Type": "application/xml"}, (
            f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>'
        ).encode()

    def tag(self, content):
        return '"' + hashlib.md5(content).hexdigest() + '"'


with open(sys.argv[7], encoding="utf-8") as file:
    credentials = json.load(file)
host.serve(Store, *sys.argv[1:6], objects=sys.argv[6], credentials=credentials)
