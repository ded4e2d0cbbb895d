// Topics on Node: `node topics.js ws` or `node topics.js socket.io`. Says its port, and publishes as many
// messages a second as each line of its input says, for as long as publish.rs does.
const path = require("path");
const modules = path.join(__dirname, "../../../target/interop/node_modules");
const http = require("http");
const readline = require("readline");
const [TOPICS, SIZE, PERIOD] = [20, 128, 4000];
// what a slow client may have outstanding: as much as everlink's outbox holds by default
const MOST = 16 * 1024 * 1024;

const server = http.createServer();
let publish;
if (process.argv[2] === "ws") {
  const { WebSocketServer } = require(path.join(modules, "ws"));
  const rooms = new Map();
  new WebSocketServer({ server, perMessageDeflate: false }).on("connection", (socket, request) => {
    const room = rooms.get(request.url) ?? new Set();
    rooms.set(request.url, room.add(socket));
    socket.on("close", () => room.delete(socket));
  });
  publish = (topic, text) => {
    for (const socket of rooms.get(topic) ?? []) {
      if (socket.bufferedAmount < MOST) socket.send(text);
    }
  };
} else {
  const { Server } = require(path.join(modules, "socket.io"));
  const io = new Server(server, { perMessageDeflate: false });
  io.on("connection", (socket) => socket.join(socket.handshake.query.topic));
  publish = (topic, text) => io.to(topic).emit("m", text);
}

server.listen(0, "127.0.0.1", () => console.log(server.address().port));
const now = () => performance.timeOrigin + performance.now();
readline.createInterface({ input: process.stdin }).on("line", (rate) => {
  const begun = now();
  let sent = 0;
  const go = () => {
    const elapsed = now() - begun;
    if (elapsed >= PERIOD) return console.log(sent);
    for (; sent < (elapsed / 1000) * rate && now() - begun < PERIOD; sent++) {
      publish(`/t${sent % TOPICS}`, Math.floor(now() * 1000).toString().padEnd(SIZE));
    }
    setTimeout(go, 1);
  };
  go();
});
