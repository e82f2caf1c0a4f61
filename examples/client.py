#!/usr/bin/env python3
"""A client of Upkeep's API: list apps, restart one, follow logs. Standard library only; written from the published reference.

    UPKEEP_URL=https://web1:9616 UPKEEP_TOKEN_FILE=~/.upkeep-token UPKEEP_CA=ca.pem client.py list
    client.py restart shop --reason "new keys"
    client.py logs shop
"""

import argparse
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid


class Refused(Exception):
    """The API said no: its message, and what could be done."""


class Client:
    def __init__(self, url, token, ca=None):
        self.url = url.rstrip("/")
        self.token = token
        self.tls = ssl.create_default_context(cafile=ca) if url.startswith("https:") else None

    def open(self, method, path, body=None, headers=None, timeout=60):
        request = urllib.request.Request(self.url + path, method=method, headers=headers or {})
        request.add_header("Authorization", "Bearer " + self.token)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            return urllib.request.urlopen(request, timeout=timeout, context=self.tls)
        except urllib.error.HTTPError as error:
            try:
                said = json.load(error)
            except ValueError:
                raise Refused(f"status {error.code}") from error
            hint = f" (hint: {said['hint']})" if said.get("hint") else ""
            raise Refused(said["message"] + hint) from error

    def call(self, method, path, body=None, headers=None):
        with self.open(method, path, body, headers) as answer:
            return json.load(answer)

    def apps(self):
        after = ""
        while True:
            page = self.call("GET", "/v1/apps?limit=100" + after)
            yield from page["apps"]
            if "next" not in page:
                return
            after = "&after=" + urllib.parse.quote(page["next"])

    def restart(self, name, reason):
        # With a key the call can be sent again if its answer gets lost: it is done once.
        key = {"Idempotency-Key": str(uuid.uuid4())}
        path = f"/v1/apps/{urllib.parse.quote(name, safe='')}/restart"
        for attempt in range(3):
            try:
                return self.call("POST", path, {"reason": reason}, key)
            except (urllib.error.URLError, ConnectionError):
                if attempt == 2:
                    raise
                time.sleep(1)

    def logs(self, name):
        """Lines as they come, over broken connections: a stream resumes behind the id that was seen last."""
        path = "/v1/logs?follow=true&lines=10&apps=" + urllib.parse.quote(name)
        last = {}
        while True:
            try:
                with self.open("GET", path, headers=last) as stream:
                    for line in stream:
                        field, _, value = line.decode().rstrip("\n").partition(": ")
                        if field == "id":
                            last = {"Last-Event-ID": value}
                        elif field == "data":
                            yield json.loads(value)
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list")
    restart = verbs.add_parser("restart")
    restart.add_argument("app")
    restart.add_argument("--reason", default="")
    verbs.add_parser("logs").add_argument("app")
    args = parser.parse_args()
    with open(os.path.expanduser(os.environ["UPKEEP_TOKEN_FILE"])) as file:
        token = file.read().strip()
    client = Client(os.environ.get("UPKEEP_URL", "http://127.0.0.1:9616"), token, os.environ.get("UPKEEP_CA"))
    if args.verb == "list":
        for app in client.apps():
            states = ", ".join(instance["actual"] for instance in app["instances"])
            print(f"{app['name']}: {states}")
    elif args.verb == "restart":
        for change in client.restart(args.app, args.reason)["changes"]:
            print(f"{change['app']}: {change['what']}")
    else:
        for line in client.logs(args.app):
            print(f"{line['app']}:{line.get('index')} {line['line']}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Refused as refused:
        sys.exit(f"refused: {refused}")
    except KeyboardInterrupt:
        sys.exit(130)
