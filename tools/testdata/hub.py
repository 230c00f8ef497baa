#!/usr/bin/env python3
"""A small Hugging Face hub on loopback, for tools/test-run.sh.

Usage: hub.py LOG

Prints the port and serves until standard input ends. Each request is a line of LOG:
host, path, Range and whether there was a token. What it answers has the shapes of the
hub's API (revision, tree in pages, resolve with a redirection to another host); how it
behaves is the repository's owner: good, gated, private, busy, breaks (once), cut (always),
full (takes no Range), lies (about the SHA-256).
"""

import hashlib
import http.server
import json
import random
import re
import sys
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DATA = random.Random(1).randbytes(300_000)
TOKEN = "hf_" + "a" * 34
NAMES = [
    "README.md",
    "mmproj-model-f16.gguf",
    "sub/it's a model-Q8_0.gguf",
    "model-Q4_K_M.gguf",
    "model-BF16-00001-of-00002.gguf",
    "model-BF16-00002-of-00002.gguf",
]
seen = set()


def content(name):
    return b"GGUF" + name.encode() + DATA


def tree(owner):
    """As GET /api/models/OWNER/REPO/tree/COMMIT?recursive=true."""
    yield {"type": "directory", "oid": "f" * 40, "size": 0, "path": "sub"}
    for name in NAMES:
        data = content(name)
        file = {"type": "file", "oid": "e" * 40, "size": len(data), "path": name}
        if name.endswith(".gguf"):
            oid = hashlib.sha256(data + (b"!" if owner == "lies" else b"")).hexdigest()
            file["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 134}
        yield file


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        token = self.headers.get("Authorization", "-")
        with open(sys.argv[1], "a") as log:
            log.write(f"{self.headers['Host'].split(':')[0]} {self.path} {self.headers.get('Range', '-')} {token}\n")
        path, _, query = self.path.partition("?")
        if cdn := re.fullmatch(r"/cdn/([^/]+)/[^/]+/(.+)", path):
            return self.file(path, *cdn.groups())
        if api := re.fullmatch(r"/api/models/([^/]+)/([^/]+)/(revision|tree)/([^/]+)", path):
            owner, repo, what, revision = api.groups()
        elif resolve := re.fullmatch(r"/([^/]+)/([^/]+)/resolve/([^/]+)/(.+)", path):
            owner, repo, revision, name = resolve.groups()
            what = "resolve"
        else:
            return self.error(404, None)
        if owner == "gated":
            return self.error(403 if token != "-" else 401, "GatedRepo")
        if owner == "private" and token != f"Bearer {TOKEN}":
            return self.error(401, "RepoNotFound")
        if repo == "none":
            return self.error(404, "RepoNotFound")
        if revision not in ("main", COMMIT):
            return self.error(404, "RevisionNotFound")
        if owner == "busy" and (repo == "always" or self.first(path)):
            return self.error(429, None, {"Retry-After": "900"} if repo == "always" else {"RateLimit": '"api";r=0;t=1'})
        if what == "revision":
            card = {"license": "mit", "language": ["en"]}
            self.json({"_id": "1", "id": f"{owner}/{repo}", "sha": COMMIT, "gated": False, "cardData": card})
        elif what == "tree":
            start = int(query.partition("cursor=")[2] or 0)
            entries = list(tree(owner))
            more = {}
            if start + 3 < len(entries):
                more["Link"] = f'<http://{self.headers["Host"]}{path}?recursive=true&cursor={start + 3}>; rel="next"'
            self.json(entries[start : start + 3], more)
        else:
            where = f"http://localhost:{self.server.server_port}/cdn/{owner}/{repo}/{name}"
            self.reply(302, b"Found", {"Location": where, "X-Repo-Commit": COMMIT})

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            pass  # it has what it wanted

    def file(self, path, owner, name):
        data = content(re.sub("%(..)", lambda c: chr(int(c[1], 16)), name))
        start = int(re.sub(r"bytes=(\d+)-", r"\1", self.headers.get("Range", "bytes=0-")))
        if start >= len(data) or (owner == "full" and start):
            return self.reply(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        status = 206 if start else 200
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        if owner == "breaks" and self.first(path) or owner == "cut":
            # It ends after half of what it promised.
            end = start + (len(data) - start) // 2 if owner == "breaks" else max(start, 1000)
            self.reply(status, data[start:end], headers, len(data) - start)
            self.close_connection = True
        else:
            self.reply(status, data[start:], headers)

    def first(self, what):
        new = what not in seen
        seen.add(what)
        return new

    def json(self, value, headers=None):
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8"} | (headers or {}))

    def error(self, status, code, headers=None):
        headers = dict(headers or {})
        if code:
            headers |= {"X-Error-Code": code, "X-Error-Message": "said by the hub"}
        self.reply(status, b'{"error":"said by the hub"}', headers)

    def reply(self, status, body, headers, length=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
print(server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
