"""Live channels as a person would write them with Flask, to be compared with.

A client posts a JSON object under its `client_id` and gets those of the others; who has not posted for a
second is gone. One process, a dictionary, a lock.
"""

import threading
import time

from flask import Flask, jsonify, request

EXPIRY = 1.0

app = Flask(__name__)
lock = threading.Lock()
channels = {}
began = time.monotonic()


def present(key, but=None):
    """What the clients of a channel have posted. Under the lock."""
    now = time.monotonic()
    clients = channels.get(key, {})
    for client in [client for client, (_, at) in clients.items() if now - at > EXPIRY]:
        del clients[client]
    return [body for client, (body, _) in clients.items() if client != but]


def answer(bodies):
    response = jsonify(bodies)
    response.headers["Server-Time"] = f"{time.monotonic() - began:.3f}"
    return response


@app.get("/api/channels/<key>")
def get(key):
    with lock:
        bodies = present(key)
    return answer(bodies)


@app.post("/api/channels/<key>")
def post(key):
    body = request.get_json()
    client = body["client_id"]
    with lock:
        channels.setdefault(key, {})[client] = (body, time.monotonic())
        bodies = present(key, client)
    return answer(bodies)
