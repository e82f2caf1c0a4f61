"""Fetches a number of work every second, and crashes on some of them, as workers do."""

import os
import random
import time
import urllib.request

PORT = int(os.environ.get("PORT", "8081"))
CRASH_ONE_IN = int(os.environ.get("CRASH_ONE_IN", "10"))


def work(number):
    if random.randrange(CRASH_ONE_IN) == 0:
        raise RuntimeError(f"item {number} is rotten")
    print(f"item {number} done")


if __name__ == "__main__":
    print("worker started")
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/work", timeout=5) as answer:
            work(int(answer.read()))
        time.sleep(1)
