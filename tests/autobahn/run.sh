#!/usr/bin/env bash
# All cases of the Autobahn test suite, with everlink as the client and as the server at the same
# time.
#
#   tests/autobahn/run.sh
#   ALLOW="NON-STRICT UNIMPLEMENTED" tests/autobahn/run.sh    these results are no failures
#   CASES="1.* 7.3.1" tests/autobahn/run.sh                   some of the cases
#   PYTHON2=/opt/python2.7/bin/python tests/autobahn/run.sh   where Python 2.7 is
#
# Everything it makes is in target/autobahn: the installed suite, which is used again, the logs, and
# the reports of the last run (clients/index.html, servers/index.html). Exit status 1 means that a
# case has a result which is neither OK nor allowed.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/autobahn"
target=$(cd "$target" && pwd)
work=$target/autobahn

# Neither side may take longer, in seconds.
limit=${LIMIT:-1200}
cases=${CASES:-*}
allowed=${ALLOW:-}

skip() { echo "skipped: $*"; exit 0; }

# the suite runs on Python 2.7 only
wstest=$work/venv/bin/wstest
if [ ! -x "$wstest" ]; then
  python2=${PYTHON2:-}
  for found in "$HOME"/.pyenv/versions/2.7*/bin/python; do
    [ -n "$python2" ] || [ ! -x "$found" ] || python2=$found
  done
  [ -n "$python2" ] || python2=$(command -v python2.7 || true)
  [ -n "$python2" ] ||
    skip "the Autobahn test suite needs Python 2.7: set PYTHON2, or install it with pyenv"
  # the last virtualenv that makes environments for Python 2.7
  { python3 -m venv --clear "$work/tools" &&
    "$work/tools/bin/pip" install --quiet virtualenv==20.21.1 &&
    "$work/tools/bin/virtualenv" --quiet --clear --python "$python2" "$work/venv" &&
    "$work/venv/bin/pip" install --quiet --no-python-version-warning autobahntestsuite==25.10.1
  } >"$work/install.log" 2>&1 || {
    rm -f "$wstest"
    tail -n 3 "$work/install.log"
    skip "the Autobahn test suite could not be installed, see $work/install.log"
  }
fi

cargo build --quiet --release --locked --example autobahn_client --example echo_server

children=()
# shellcheck disable=SC2317
stop() {
  for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
  wait
}
trap stop EXIT
trap 'exit 130' INT TERM
rm -rf "$work/clients" "$work/servers" "$work"/*.log

# The lists and names of a specification, as JSON.
list() { python3 -c 'import json, sys; print(json.dumps(sys.argv[1].split()))' "$1"; }

# Repeats a command until it succeeds.
await() {
  local deadline=$((SECONDS + 30))
  until "${@:2}" 2>/dev/null; do
    [ "$SECONDS" -lt "$deadline" ] || { echo "$1 did not happen in 30 s" >&2; return 1; }
    sleep 0.05
  done
}

can_connect() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }

as_client() {
  local port
  port=$(python3 -c '
import socket
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
print(listener.getsockname()[1])')
  cat >"$work/server.json" <<JSON
{"url": "ws://127.0.0.1:$port", "outdir": "$work/clients", "cases": $(list "$cases"),
 "exclude-cases": [], "exclude-agent-cases": {}}
JSON
  (cd "$work" && exec "$wstest" -m fuzzingserver -u 0 -s server.json) >"$work/suite_server.log" 2>&1 &
  children+=($!)
  await "the suite's server" can_connect "$port"
  # it gives up after each case, which the library logs
  RUST_LOG=${RUST_LOG:-off} timeout "$limit" "$target/release/examples/autobahn_client" "ws://127.0.0.1:$port" \
    >"$work/client.log" 2>&1 &
  client=$!
  children+=("$client")
}

as_server() {
  local url
  RUST_LOG=${RUST_LOG:-warn} "$target/release/examples/echo_server" --compress 127.0.0.1:0 >"$work/server.log" 2>&1 &
  children+=($!)
  await "everlink's server" grep -q '^listening on ' "$work/server.log"
  url=$(sed -n 's/^listening on //p' "$work/server.log")
  cat >"$work/client.json" <<JSON
{"servers": [{"agent": "everlink", "url": "$url"}], "outdir": "$work/servers",
 "cases": $(list "$cases"), "exclude-cases": [], "exclude-agent-cases": {}}
JSON
  (cd "$work" && exec timeout "$limit" "$wstest" -m fuzzingclient -s client.json) \
    >"$work/suite_client.log" 2>&1 &
  suite_client=$!
  children+=("$suite_client")
}

as_client
as_server
wait "$client" || echo "everlink's client ended with status $?: see $work/client.log"
wait "$suite_client" || echo "the suite's client ended with status $?: see $work/suite_client.log"
cat "$work/client.log"

if [ "$cases" = "*" ]; then all=517; else all=0; fi
python3 tests/autobahn/judge.py "$work" --cases "$all" --allow "$allowed"
