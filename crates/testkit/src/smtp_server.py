"""A mail server on loopback for linkspan's tests: aiosmtpd (RFC 5321, STARTTLS, AUTH) that keeps what it takes as files.

Called with one JSON object: folder, port, tls ("none", "starttls", "implicit"), cert, key, user, password, replies.
Writes "listening PORT" to standard output. `replies` maps MAIL, RCPT, "RCPT ADDRESS" and DATA to the reply to give in place of 250.
"""

import asyncio
import json
import logging
import os
import ssl
import sys
import warnings

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

# It warns of sign-in without STARTTLS; a test may want just that.
warnings.simplefilter("ignore")
settings = json.loads(sys.argv[1])
folder = settings["folder"]
replies = settings.get("replies", {})
taken = 0


class Keeper:
    async def handle_MAIL(self, server, session, envelope, address, options):
        if "MAIL" in replies:
            return replies["MAIL"]
        envelope.mail_from = address
        return "250 2.1.0 Ok"

    async def handle_RCPT(self, server, session, envelope, address, options):
        reply = replies.get(f"RCPT {address}", replies.get("RCPT"))
        if reply:
            return reply.replace("ADDRESS", address)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server, session, envelope):
        global taken
        if "DATA" in replies:
            return replies["DATA"]
        taken += 1
        kept = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "user": session.auth_data.login.decode() if session.auth_data else None,
            "encrypted": session.ssl is not None or settings["tls"] == "implicit",
            "content": envelope.original_content.decode("utf-8", "surrogateescape"),
        }
        path = os.path.join(folder, f"{taken:06}-{os.getpid()}.json")
        with open(path + ".part", "w") as file:
            json.dump(kept, file)
        os.rename(path + ".part", path)
        return f"250 2.0.0 Ok: queued as TEST{taken:04}"


def authenticate(server, session, envelope, mechanism, data):
    good = (
        isinstance(data, LoginPassword)
        and data.login.decode() == settings["user"]
        and data.password.decode() == settings["password"]
    )
    return AuthResult(success=good, handled=good, auth_data=data if good else None)


def context():
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(settings["cert"], settings["key"])
    return made


async def main():
    # Every line that a client said, before and after TLS.
    said = logging.FileHandler(os.path.join(folder, "said.log"))
    logging.getLogger("mail.log").addHandler(said)
    logging.getLogger("mail.log").setLevel(logging.INFO)
    loop = asyncio.get_running_loop()
    tls = settings["tls"]
    user = settings.get("user")

    def conversation():
        return SMTP(
            Keeper(),
            loop=loop,
            hostname="mail.test",
            ident="test server",
            tls_context=context() if tls == "starttls" else None,
            require_starttls=tls == "starttls",
            auth_required=user is not None,
            auth_require_tls=tls == "starttls",
            authenticator=authenticate if user is not None else None,
        )

    server = await loop.create_server(
        conversation,
        host="127.0.0.1",
        port=settings.get("port", 0),
        ssl=context() if tls == "implicit" else None,
    )
    print("listening", server.sockets[0].getsockname()[1], flush=True)
    # Ends with the test that started it: its standard input is a pipe that the test holds.
    await loop.run_in_executor(None, sys.stdin.read)
    os._exit(0)


asyncio.run(main())
