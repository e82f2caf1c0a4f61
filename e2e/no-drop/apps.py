"""What gunicorn (`apps:wsgi`) and uvicorn (`apps:asgi`) serve. `V` is the body; `CRASH_AFTER_MS` ends all of it."""

import os
import signal
import threading

BODY = os.environ.get("V", "").encode()


def crash():
    # The master of gunicorn, or uvicorn itself: nothing of it shall live.
    os.killpg(os.getpgid(0), signal.SIGKILL)


if "CRASH_AFTER_MS" in os.environ:
    timer = threading.Timer(int(os.environ["CRASH_AFTER_MS"]) / 1000, crash)
    timer.daemon = True
    timer.start()


def wsgi(_, start_response):
    start_response("200 OK", [("Content-Length", str(len(BODY)))])
    return [BODY]


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(BODY)).encode())]})
    await send({"type": "http.response.body", "body": BODY})
