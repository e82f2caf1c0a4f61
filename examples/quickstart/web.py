"""A small web server: a greeting, a health check, and a number of work for whoever asks."""

import itertools
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GREETING = os.environ.get("GREETING", "Hello")
PORT = int(os.environ.get("PORT", "8081"))
WORK = itertools.count(1)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        answers = {
            "/": lambda: f"{GREETING}, I am process {os.getpid()}",
            "/healthz": lambda: "ok",
            "/work": lambda: str(next(WORK)),
        }
        answer = answers.get(self.path)
        body = (answer() if answer else "nothing here").encode() + b"\n"
        self.send_response(200 if answer else 404)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        if self.path != "/healthz":  # asked every second: no news
            print(f"{self.client_address[0]} {self.requestline} {int(code)}")


def stop(_signal, _frame):
    print("stopping")
    sys.exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    print(f"listening on http://127.0.0.1:{PORT}/")
    server.serve_forever()
