# SPDX-License-Identifier: Apache-2.0
"""A hub on this machine: as much of the Hugging Face hub's interface as fetching uses, and its ways to fail."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

COMMIT = "c" * 40


@dataclass
class Hub:
    """What it serves and what it was asked for."""

    repository: str
    files: dict[str, bytes]
    small: tuple[str, ...] = ()  # files whose sha256 it does not state
    commit: str = COMMIT
    gated: bool = False
    cut_at: int | None = None  # the next connection breaks after so many bytes
    spoiled: set[str] = field(default_factory=set)  # files that arrive with another byte at their end
    ranges: list[tuple[str, str | None]] = field(default_factory=list)  # file and Range header of each transfer
    url: str = ""

    def description(self) -> dict[str, object]:
        siblings = []
        for name, content in self.files.items():
            entry: dict[str, object] = {"rfilename": name, "size": len(content)}
            entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            if name not in self.small:
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        return {"id": self.repository, "modelId": self.repository, "sha": self.commit, "siblings": siblings, "tags": []}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Answer on a port of this machine until the block ends."""

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if hub.gated:
                self.refuse(403, "GatedRepo")
            elif path == f"/api/models/{hub.repository}" or path.startswith(f"/api/models/{hub.repository}/revision/"):
                wanted = path.rpartition("/revision/")[2] if "/revision/" in path else "main"
                if wanted in ("main", hub.commit):
                    self.send(200, json.dumps(hub.description()).encode(), {})
                else:
                    self.refuse(404, "RevisionNotFound")
            elif path.startswith(f"/{hub.repository}/resolve/{hub.commit}/"):
                self.transfer(path.removeprefix(f"/{hub.repository}/resolve/{hub.commit}/"))
            else:
                self.refuse(404, "RepoNotFound")

        def transfer(self, name: str) -> None:
            content = hub.files[name]
            if name in hub.spoiled:
                content = content[:-1] + bytes([content[-1] ^ 1])
            asked = self.headers.get("Range")
            hub.ranges.append((name, asked))
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            total = len(content)
            headers = {"Content-Range": f"bytes {start}-{total - 1}/{total}"} if asked else {}
            self.send(206 if asked else 200, content[start:], headers)

        def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if (
                hub.cut_at is not None
                and status in (200, 206)
                and len(body) > hub.cut_at
                and "Content-Range" not in headers
            ):
                self.wfile.write(body[: hub.cut_at])
                hub.cut_at = None
                self.close_connection = True
            else:
                self.wfile.write(body)

        def refuse(self, status: int, code: str) -> None:
            self.send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
