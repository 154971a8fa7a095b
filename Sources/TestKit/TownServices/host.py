"""What the town's HTTPS hosts share: TLS, a thread a connection, and a record of each request.

A request is written to the record before it is answered, so that whoever has the answer finds it there: one JSON object a
line, with the header names in lower case, values of a repeated header joined by ", ", and the body in base64.
"""

import base64
import http.server
import json
import socketserver
import ssl
import sys
import threading


class Record:
    def __init__(self, path):
        self.file = open(path, "a", encoding="utf-8")
        self.lock = threading.Lock()

    def add(self, line):
        with self.lock:
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()


class Handler(http.server.BaseHTTPRequestHandler):
    """Reads a request whole, records it and says what `answer` returns: a status, headers and a body."""

    protocol_version = "HTTP/1.1"

    def answer(self, body):
        raise NotImplementedError

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def respond(self):
        body = self.body()
        names = {name.lower() for name in self.headers}
        self.server.record.add({
            "method": self.command,
            "path": self.path,
            "headers": {name: ", ".join(self.headers.get_all(name)) for name in names},
            "body": base64.b64encode(body).decode(),
        })
        status, headers, content = self.answer(body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = respond

    def log_message(self, *words):
        """The record has it."""


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, address, certificate, key, record, handler):
        super().__init__(address, handler)
        self.record = Record(record)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)

    def server_bind(self):
        # Not HTTPServer's, which asks a name server what this host is called; there is none in the town for that.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address

    def finish_request(self, request, client):
        # Here, in the connection's own thread: a client that never finishes its handshake holds nobody else up.
        with self.context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client)

    def handle_error(self, request, client):
        # A client that does not trust this host, or goes, is no fault of it.
        print(client, repr(sys.exc_info()[1]), file=sys.stderr, flush=True)


def serve(handler, address, port, certificate, key, record, **more):
    server = Server((address, int(port)), certificate, key, record, handler)
    for name, value in more.items():
        setattr(server, name, value)
    server.serve_forever()
