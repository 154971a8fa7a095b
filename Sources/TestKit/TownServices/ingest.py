"""Takes log lines by HTTPS: POST /ingest, whatever the body is.

usage: ingest.py ADDRESS PORT CERTIFICATE KEY RECORD
"""

import sys

import host


class Ingest(host.Handler):
    def answer(self, body):
        if self.path.split("?")[0] != "/ingest":
            return 404, {}, b"nothing here\n"
        if self.command != "POST":
            return 405, {"Allow": "POST"}, b"POST only\n"
        return 200, {"Content-Type": "application/json"}, b'{"taken": %d}\n' % len(body)


host.serve(Ingest, *sys.argv[1:])
