"""What botocore's signers make of requests, for SignerReferenceTests.swift.

Reads a JSON array of requests from stdin and writes the array of their Authorization fields.
"""
import datetime
import json
import sys

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials


def sign(question):
    at = datetime.datetime.fromtimestamp(question["at"], datetime.timezone.utc)
    botocore.auth.get_current_datetime = lambda *_, **__: at
    query = "?" + question["query"] if question["query"] else ""
    request = AWSRequest(
        method=question["method"], url=f"https://{question['host']}{question['path']}{query}",
        data=question["body"].encode())
    for name, value in question["fields"]:
        request.headers.add_header(name, value)
    keys = Credentials(question["identifier"], question["key"], question.get("token"))
    signer = botocore.auth.S3SigV4Auth if question["service"] == "s3" else botocore.auth.SigV4Auth
    # How a client is told to leave bodies of S3 unsigned.
    request.context["client_config"] = Config(s3={"payload_signing_enabled": not question["unsigned"]})
    signer(keys, question["service"], question["region"]).add_auth(request)
    return request.headers["Authorization"]


json.dump([sign(question) for question in json.load(sys.stdin)], sys.stdout)
