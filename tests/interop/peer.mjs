// Node ws as the peer of tests/it/interop.rs: `peer.mjs server` or `peer.mjs client URL`. The folder
// with its node_modules is in EVERLINK_INTEROP.

import assert from "node:assert";
import { once } from "node:events";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.EVERLINK_INTEROP}/`);
const { WebSocket, WebSocketServer } = require("ws");

// set: messages are compressed, if the other side agrees
const DEFLATE = process.env.EVERLINK_DEFLATE;
const alone = DEFLATE === "alone";
const perMessageDeflate =
  DEFLATE !== "" && { threshold: 0, serverNoContextTakeover: alone, clientNoContextTakeover: alone };

const SIZES = [0, 1, 125, 126, 65535, 65536, 16 * 1024 * 1024];

/** Sends a text in fragments, with a ping after each. */
function inFragments(socket, text, size) {
  for (let start = 0; start < text.length; start += size) {
    const fin = start + size >= text.length;
    socket.send(text.slice(start, start + size), { fin });
    socket.ping();
  }
}

async function checkPings(socket) {
  for (const payload of ["", "p".repeat(125)]) {
    await new Promise((answered) => {
      // answers to pings from before may still be under way
      const check = (answer) => {
        if (answer.toString() === payload) {
          socket.off("pong", check);
          answered();
        }
      };
      socket.on("pong", check);
      socket.ping(payload);
    });
  }
}

function handle(socket) {
  socket.on("message", async (data, isBinary) => {
    const text = isBinary ? "" : data.toString();
    if (text === "subprotocol?") {
      socket.send(socket.protocol);
    } else if (text === "pings?") {
      await checkPings(socket);
      socket.send("answered");
    } else if (text.startsWith("fragments ")) {
      inFragments(socket, "f".repeat(Number(text.split(" ")[1])), 1000);
    } else if (text.startsWith("close ")) {
      const [, code, reason] = text.split(" ");
      socket.close(Number(code), reason);
    } else {
      socket.send(data, { binary: isBinary });
    }
  });
  socket.on("close", (code, reason) => console.log("closed", code, reason.toString()));
}

function server() {
  const handleProtocols = (offered) => (offered.has("v2") ? "v2" : false);
  const listening = new WebSocketServer({
    host: "127.0.0.1",
    port: 0,
    handleProtocols,
    perMessageDeflate,
  });
  listening.on("connection", handle);
  listening.on("listening", () => {
    console.log(`listening ws://127.0.0.1:${listening.address().port}`);
  });
  // until the test closes the pipe
  process.stdin.on("end", () => process.exit(0)).resume();
}

async function open(url, protocols) {
  const socket = new WebSocket(url, protocols, { perMessageDeflate: perMessageDeflate || true });
  await once(socket, "open");
  return socket;
}

async function client(url) {
  const socket = await open(url, ["v1", "v2"]);
  assert.equal(socket.protocol, "v2");
  for (const size of SIZES) {
    for (const payload of ["t".repeat(size), Buffer.alloc(size, "b")]) {
      socket.send(payload);
      const [data, isBinary] = await once(socket, "message");
      assert.equal(isBinary, typeof payload !== "string");
      assert(data.equals(Buffer.from(payload)), `${size}`);
    }
  }
  inFragments(socket, "f".repeat(100_000), 1000);
  const [whole] = await once(socket, "message");
  assert.equal(whole.toString(), "f".repeat(100_000));
  await checkPings(socket);
  socket.close(4001, "bye");
  const [code] = await once(socket, "close");
  assert.equal(code, 4001);

  const other = await open(url, ["v2"]);
  other.send("close 4002 going");
  const [received, reason] = await once(other, "close");
  assert.deepEqual([received, reason.toString()], [4002, "going"]);
}

/** Sends back what comes, until the server closes. */
async function member(url) {
  const socket = await open(url, ["v2"]);
  handle(socket);
  socket.send("here");
  await once(socket, "close");
}

if (process.argv[2] === "server") {
  server();
} else if (process.argv[2] === "member") {
  await member(process.argv[3]);
} else {
  await client(process.argv[3]);
}
