"""A mail server for one test: TLS by STARTTLS or from the first byte, a login, each mail as a line of JSON."""

import json
import ssl
import sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

mode, certificate, key = sys.argv[1:4]


class Handler:
    async def handle_DATA(self, server, session, envelope):
        text = envelope.content.decode()
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "text": text,
            "tls": session.ssl is not None or mode == "always",
            "login": session.auth_data is not None,
        }
        print(json.dumps(mail), flush=True)
        return "250 taken"


def login(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.login == b"upkeep" and data.password == b"s3cret-of-mail"
    if good:
        return AuthResult(success=True, auth_data=data.login)
    return AuthResult(success=False, handled=False)


context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate, key)
more = dict(authenticator=login, auth_required=True, hostname="localhost")
if mode == "starttls":
    more |= dict(tls_context=context, require_starttls=True)
else:
    more |= dict(auth_require_tls=False)


class Server(Controller):
    def factory(self):
        return SMTP(self.handler, **self.SMTP_kwargs)


def free():
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


port = free()
kwargs = dict(hostname="127.0.0.1", port=port, **{name: value for name, value in more.items() if name != "hostname"})
server = Server(Handler(), ssl_context=context if mode == "always" else None, **kwargs)
server.start()
print(json.dumps({"port": port}), flush=True)
sys.stdin.read()
server.stop()
