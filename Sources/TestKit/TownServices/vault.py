"""As much of Vault's key-value engine, version 2, as a reader needs: a token, versions, deleted ones.

Source: "KV secrets engine - version 2 (API)" of Vault's documentation. What it knows is a file that the test may replace at
any moment: {"token": TOKEN, "secrets": {PATH: [{"data": {…}, "deleted": false}, …]}}, the first being version 1.

usage: vault.py ADDRESS PORT CERTIFICATE KEY RECORD STATE
"""

import json
import sys
import urllib.parse

import host

MOUNT = "/v1/secret/data/"
CREATED = "2026-01-01T00:00:00.000000Z"


class Vault(host.Handler):
    def answer(self, body):
        with open(self.server.state, encoding="utf-8") as file:
            state = json.load(file)
        target = urllib.parse.urlsplit(self.path)
        # Vault says the same to a wrong token as to a right one without permission.
        if self.headers.get("X-Vault-Token") != state["token"]:
            return self.say(403, {"errors": ["permission denied"]})
        if self.command != "GET" or not target.path.startswith(MOUNT):
            return self.say(404, {"errors": []})
        versions = state["secrets"].get(urllib.parse.unquote(target.path[len(MOUNT):]), [])
        asked = urllib.parse.parse_qs(target.query).get("version", ["0"])[0]
        number = int(asked) or len(versions)
        if not 1 <= number <= len(versions):
            return self.say(404, {"errors": []})
        version = versions[number - 1]
        deleted = version["deleted"]
        return self.say(404 if deleted else 200, {
            "request_id": "0", "lease_id": "", "renewable": False, "lease_duration": 0, "wrap_info": None,
            "warnings": None, "auth": None,
            "data": {
                "data": None if deleted else version["data"],
                "metadata": {
                    "created_time": CREATED, "custom_metadata": None, "destroyed": False, "version": number,
                    "deletion_time": CREATED if deleted else "",
                },
            },
        })

    def say(self, status, document):
        return status, {"Content-Type": "application/json"}, json.dumps(document).encode() + b"\n"


host.serve(Vault, *sys.argv[1:-1], state=sys.argv[-1])
