"""Chromium without a window, with page.html: says what the page says. Arguments as in WORKLOAD.md."""

import http.server
import os
import subprocess
import tempfile
import threading
from pathlib import Path

from workload import arguments

HERE = Path(__file__).parent
FILES = {
    "/page.html": (HERE / "page.html", "text/html"),
    "/workload.mjs": (HERE / "workload.mjs", "text/javascript"),
    "/everlink.js": (HERE / "../../../examples/browser/everlink.js", "text/javascript"),
}
RELOADS = 4
said = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, kind = FILES.get(self.path.partition("?")[0], (None, None))
        if path is None:
            return self.send_error(404)
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(204)
        self.end_headers()
        said.set()

    def log_message(self, *_):
        pass


options = arguments()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
    program = os.environ.get("EVERLINK_CHROMIUM", "/usr/bin/chromium")
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder}"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    words = [options.count, options.seed, RELOADS, options.url, options.ends[0]]
    page = f"http://127.0.0.1:{server.server_port}/page.html#{','.join(map(str, words))}"
    # what a browser that is killed leaves behind goes with its profile
    quiet = {"env": os.environ | {"TMPDIR": folder}, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    browser = subprocess.Popen([*command, page], **quiet)
    said.wait(options.timeout - 5)
    browser.kill()
    browser.wait()
