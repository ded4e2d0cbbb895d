// An Engine.IO server (the transport of Socket.IO) that echoes, on the port that is its argument.
import { Server } from "engine.io";
import { createServer } from "http";

const http = createServer();
const server = new Server({ pingInterval: 300, pingTimeout: 1500, transports: ["websocket"] });
server.attach(http);
server.on("connection", (socket) => socket.on("message", (data) => socket.send(data)));
http.listen(Number(process.argv[2]), "127.0.0.1");
