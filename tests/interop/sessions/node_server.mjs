// A server with sessions, on Node's `ws`: src/resume/PROTOCOL.md. The counting is that of examples/browser/everlink.js.
//
//   const server = new Server((session) => {
//     // runs once for each session, however many links it takes
//     session.onmessage = (data) => session.send(data);
//     session.onover = (end) => console.log(end ?? "forgotten: its client did not come back");
//   });
//   const listening = new WebSocketServer({ port: 8080, ...server.options() });
//   listening.on("connection", (socket, request) => server.serve(socket, request));

import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import { Peer } from "../../../examples/browser/everlink.js";

const LIMIT = 16 * 1024 * 1024; // bytes of a program's message; that of the link is one more
const PARAMS = "(?: [\\w-]+=[!-~]*)*";
const CLAIM = "([\\w-]{22,64}) attempt=(\\d{1,15}) received=(\\d{1,15})(?: has=(\\d{1,15}))?";
const OFFER = new RegExp(`^s (?:new|${CLAIM})${PARAMS}$`);

export class Server {
  constructor(handler, { name, window = 120000, most = 1000, silence = 20000, opening = 10000 } = {}) {
    Object.assign(this, { handler, window, most, silence, opening });
    this.protocol = name ? `everlink.1.${name}` : "everlink.1";
    this.sessions = new Map(); // those that wait are behind those that have waited longer
  }

  options() {
    return {
      maxPayload: LIMIT + 1,
      handleProtocols: (offered) => offered.has(this.protocol) && this.protocol,
      // a browser compresses its offer, which has the token: no dictionary may live on (rule 9)
      perMessageDeflate: { clientNoContextTakeover: true },
    };
  }

  serve(socket, { url }) {
    if (socket.protocol !== this.protocol) return socket.close(1002, "sessions only");
    const opening = setTimeout(() => socket.terminate(), this.opening);
    let session = null;
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      clearTimeout(session && opening); // with the report that follows the answer
      if (session) return session.socket === socket && session.took(data); // nothing is read of an older link
      session = this.claim(OFFER.exec(data), socket, url.split("?")[0]);
      if (!session) socket.onmessage = null;
    };
    socket.onerror = ({ error }) => {
      const isTooLarge = error.code === "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH";
      if (isTooLarge && session) session.refuse(1009, "message too large");
    };
    socket.onclose = () => {
      clearTimeout(opening);
      if (session?.socket === socket) session.wait();
    };
  }

  /** The session of an offer: the one that it resumes, or a new one. A claim that does not fit changes nothing. */
  claim(offer, socket, path) {
    if (!offer) return void socket.close(1002, "the first message is no offer");
    const [attempt, received, has] = [Number(offer[2]), Number(offer[3]), Number(offer[4] ?? offer[3])];
    let session = this.sessions.get(offer[1]);
    if (session?.path === path && attempt > session.attempt && session.fits(received, has)) {
      session.attempt = attempt;
      session.attach(socket, received, has);
    } else if (this.sessions.size < this.most || this.makeRoom()) {
      session = new ServerSession(this, path);
      session.attach(socket, 0, 0);
    } else {
      return void socket.close(1013, "full"); // and no answer: the client keeps its session and tries again
    }
    return session;
  }

  /** Those that have never reported go first, then the one that has waited longest. */
  makeRoom() {
    const waiting = [...this.sessions.values()].filter(({ socket }) => !socket);
    const goes = waiting.find(({ hasReported }) => !hasReported) ?? waiting[0];
    goes?.forget();
    return goes;
  }
}

/** What a handler has. */
class ServerSession extends Peer {
  hasReported = false; // and with that its handler has started
  links = 0;
  onover = () => {}; // with { code, reason } of `e`, or null

  constructor(server, path) {
    super();
    this.begin(randomBytes(18).toString("base64url"));
    Object.assign(this, { server, path, silence: server.silence });
    server.sessions.set(this.token, this);
  }

  attach(socket, received, has) {
    this.socket?.terminate();
    Object.assign(this, { socket, isUp: false, expectsReport: true, links: this.links + 1 });
    socket.send(`s ${this.token} received=${this.received}`, { compress: false });
    this.start(received, has);
    if (this.final) this.sayEnd(); // again: the last one was lost
    if (this.final) this.giveUp();
    if (this.hasReported) this.write();
  }

  took(data) {
    if (!this.isUp) return; // both ends have said `e`
    if (this.expectsReport && !/^r \d{1,15}$/.test(data)) return this.violated("the first message is no report");
    this.expectsReport = false;
    try {
      this.take(data);
      if (this.hasReported || !this.isUp) return;
      this.hasReported = true;
      this.server.handler(this);
    } catch (error) {
      console.error("the handler failed:", error);
      this.close(1011);
    }
  }

  /** Ends the session without what is queued. */
  refuse(code, reason) {
    Object.assign(this, { isMute: true, pending: [] });
    this.close(code, reason);
  }

  giveUp() {
    if (this.isUp && this.final) this.socket.close(1000);
    else this.socket?.terminate();
    this.isUp = false;
    if (this.final) this.over(this.final);
  }

  over(end) {
    this.onover(end);
    this.onover = () => {};
  }

  violated(why) {
    console.error("a violation:", why);
    this.socket.close(1002, why);
    this.forget();
  }

  /** The link is lost. */
  wait() {
    Object.assign(this, { socket: null, isUp: false });
    clearTimeout(this.timer); // that of the silence
    this.server.sessions.delete(this.token);
    this.server.sessions.set(this.token, this); // behind those that wait already
    this.timer = setTimeout(() => this.forget(), this.server.window);
  }

  forget() {
    Object.assign(this, { socket: null, isUp: false });
    clearTimeout(this.timer);
    this.server.sessions.delete(this.token);
    this.over(null);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { WebSocketServer } = await import("./ws.mjs");
  const { SERVER_TIMES, Workload, options } = await import("./workload.mjs");
  let sessions = 0;
  const handler = (session) => {
    const work = new Workload("s", options(process.argv.slice(2)));
    sessions += 1;
    session.onover = () => console.log(JSON.stringify(work.ended(session, sessions)));
    work.run(session);
  };
  const server = new Server(handler, SERVER_TIMES);
  const listening = new WebSocketServer({ host: "127.0.0.1", port: 0, ...server.options() });
  listening.on("connection", (socket, request) => server.serve(socket, request));
  listening.on("listening", () => console.log(`ws://127.0.0.1:${listening.address().port}`));
}
