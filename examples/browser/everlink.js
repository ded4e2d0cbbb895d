// A session with a server that speaks everlink.1: nothing is lost, nothing comes twice, in order, both ways, however
// often the connection breaks. For browsers, and for Node with its own WebSocket or that of `ws`. The protocol is
// src/resume/PROTOCOL.md, everlink.d.ts says all that can be set.
//
//   const session = new Session("wss://host/path", { storage: sessionStorage, onsave: () => page });
//   session.onmessage = (data) => ...;           // a string or a Uint8Array
//   session.onstate = (state, detail) => ...;    // "connecting", "up", "down", "replaced", "over"
//   session.send("once");
//
// With `storage` a session survives the reload of its page: at `pagehide` it is stored, together with what `onsave`
// returns, and `session.saved` has that in the next page. It does not survive a page that ends without `pagehide` (a
// crash, a phone that kills it), nor a storage that is full: the next page begins a new session then, and does not
// know what was unconfirmed.

const UNCONFIRMED = 256; // so many messages are on their way at most
const ANSWER = /^s ([\w-]{22,64}) received=(\d{1,15})(?: has=(\d{1,15}))?(?: [\w-]+=[!-~]*)*$/;
const TIMES = { delay: 1000, most: 30000, stable: 10000, silence: 20000, opening: 10000 }; // milliseconds

/**
 * What client and server have in common: counting, writing, reading, asking, ending. It uses `socket`, calls `giveUp`
 * when that is of no use any more, and `violated` when the peer has broken the protocol.
 */
export class Peer {
  onmessage = () => {};
  onbeat = () => {};
  onconfirmed = () => {};
  pending = []; // messages with their `m`, not confirmed: the first has number `confirmed + 1`
  ending = null; // { code, reason }: this end wants to end the session
  final = null; // { code, reason }: the peer has said `e`, the session is over

  begin(token) {
    Object.assign(this, { token, attempt: 0, sent: 0, confirmed: 0, received: 0, isMute: false, isUp: false });
  }

  /** Sends a string or bytes, on this link or a later one. */
  send(data) {
    if (this.ending || this.final) throw new Error("the session is closed");
    this.pending.push(marked("m", data));
    this.write();
  }

  /** Sends outside of the count: on this link, if there is one, and not again. */
  beat(data) {
    if (this.isUp) this.put(marked("x", data));
  }

  /** Ends the session after what was sent before. */
  close(code = 1000, reason = "") {
    if (!isEnd(`e ${code} ${reason}`)) throw new RangeError("a code of 4 digits, a reason of one line and 123 bytes");
    this.ending ??= { code, reason };
    if (this.token || this.pending.length || this.final) return this.write();
    this.final = this.ending; // there is nothing to end
    this.giveUp("closed");
  }

  fits(received, has) {
    return this.confirmed <= received && received <= has && has <= this.sent;
  }

  /** The link is up: the peer counts up to `received`, and has up to `has`. */
  start(received, has) {
    this.confirm(received);
    // up to `at` all is written on this link, or need not be
    Object.assign(this, { at: has, askedAt: -1, isAsking: false, hasSaidEnd: false, isUp: true, quiet: 0 });
    clearTimeout(this.timer);
    this.timer = setInterval(() => this.tick(), this.silence);
  }

  take(data) {
    this.quiet = 0;
    const isText = typeof data === "string";
    if (!isText) data = new Uint8Array(data);
    const kind = isText ? data[0] : String.fromCharCode(data[0]);
    const number = isText && /^[rg] \d{1,15}$/.test(data) ? Number(data.slice(2)) : NaN;
    if (kind === "m") {
      if (this.count(1)) this.onmessage(data.slice(1));
    } else if (kind === "x") {
      this.onbeat(data.slice(1));
    } else if (kind === "g" && number >= 0) {
      this.count(number);
    } else if (kind === "r" && number <= this.at) {
      this.isAsking = false;
      this.confirm(number);
    } else if (data === "a") {
      this.put(`r ${this.received}`);
    } else if (isText && isEnd(data)) {
      this.final = this.ending ?? { code: Number(data.slice(2, 6)), reason: data.slice(7) };
      this.sayEnd();
      this.giveUp("over");
    } else {
      this.violated("not a message of this session, or a report of more than was sent");
    }
    this.write();
  }

  /** Whether it is counted: after its own `e` an end counts nothing any more. */
  count(more) {
    if (this.isMute) return false;
    if (this.received + more >= 1e15) return this.violated("a number of 16 digits");
    this.received += more;
    return true;
  }

  confirm(number) {
    if (number <= this.confirmed) return;
    this.pending.splice(0, number - this.confirmed);
    this.confirmed = number;
    this.onconfirmed(number);
  }

  /** Writes what can be written now. */
  write() {
    if (!this.isUp) return;
    while (this.at - this.confirmed < Math.min(this.pending.length, UNCONFIRMED)) {
      this.put(this.pending[this.at - this.confirmed]);
      this.sent = Math.max(this.sent, ++this.at);
    }
    if (this.ending && this.at - this.confirmed >= this.pending.length) {
      this.sayEnd();
    } else if (this.sent > this.confirmed && this.at > this.askedAt && !this.isAsking) {
      Object.assign(this, { isAsking: true, askedAt: this.at });
      this.put("a");
    }
  }

  sayEnd() {
    const { code, reason } = this.final ?? this.ending;
    this.put(`r ${this.received}`);
    this.put(`e ${code} ${reason}`.trimEnd());
    this.hasSaidEnd = this.isMute = true;
  }

  put(message) {
    if (!this.hasSaidEnd) this.socket.send(message);
  }

  /** A link on which nothing comes is asked, and given up if it does not answer. */
  tick() {
    this.quiet += 1;
    if (this.quiet === 2) this.put("a");
    else if (this.quiet > 2) this.giveUp("silence");
  }
}

export class Session extends Peer {
  onstate = () => {};
  saved = null; // what the page before this one has saved

  constructor(url, { protocol, storage, key, onsave = () => null, ...times } = {}) {
    super();
    this.begin(null);
    Object.assign(this, TIMES, times, { url, storage, onsave, failures: 0 });
    this.protocol = protocol ? `everlink.1.${protocol}` : "everlink.1";
    this.key = key ?? `everlink ${url} ${this.protocol}`;
    Object.assign(this, JSON.parse(storage?.getItem(this.key) ?? "{}", revive));
    storage?.removeItem(this.key); // a copy of this tab must find nothing
    const listen = globalThis.addEventListener ?? (() => {}); // Node has no page
    listen("pagehide", () => this.suspend());
    for (const name of ["pageshow", "online", "offline", "visibilitychange"]) listen(name, (event) => this.wake(event));
    queueMicrotask(() => this.dial()); // the page has set its listeners then
  }

  /** The page goes: what is needed to go on is stored, and this object only stores what is still sent. */
  suspend() {
    if (!this.storage || this.final) return;
    Object.assign(this, { isSuspended: true, stored: null });
    this.giveUp("the page is hidden");
    this.write();
  }

  write() {
    if (!this.isSuspended) return super.write();
    const { token, attempt, sent, confirmed, received, isMute, pending, ending } = this;
    const state = { token, attempt, sent, confirmed, received, isMute, pending, ending, saved: this.onsave() };
    const text = JSON.stringify(state, replace);
    this.storage.setItem(this.key, text); // throws if the storage is full
    this.stored = text;
  }

  /** The network or the page is back: dials now, or asks whether the link still lives. */
  wake({ type }) {
    if (type === "pageshow" && this.isSuspended) {
      this.isSuspended = false; // from the back/forward cache: it goes on, if no other page has taken the session
      if (this.storage.getItem(this.key) !== this.stored) this.replace(null, "another page has taken the session");
      else this.storage.removeItem(this.key);
    }
    if (!this.isUp) return this.dial();
    this.put("a");
    this.quiet = 1; // however long the page was asleep
  }

  dial() {
    if (this.socket || this.isSuspended || this.final) return;
    clearTimeout(this.timer);
    const socket = (this.socket = new WebSocket(this.url, this.protocol));
    socket.binaryType = "arraybuffer";
    this.upSince = Infinity;
    this.timer = setTimeout(() => this.giveUp("no answer"), this.opening);
    this.onstate("connecting");
    const offer = () => (this.token ? `s ${this.token} attempt=${++this.attempt} received=${this.received}` : "s new");
    socket.onopen = () => socket.send(offer(), { compress: false }); // `ws` can leave it uncompressed, a browser cannot
    // a socket that was given up still delivers: nothing of that is counted
    socket.onmessage = ({ data }) => socket === this.socket && (this.isUp ? this.take(data) : this.open(data));
    socket.onerror = () => {};
    socket.onclose = () => socket === this.socket && this.giveUp("closed");
  }

  open(data) {
    const answer = ANSWER.exec(data);
    if (!answer) return this.giveUp("the first message is no answer");
    const [token, received, has] = [answer[1], Number(answer[2]), Number(answer[3] ?? answer[2])];
    if (token !== this.token) this.replace(token, "the session is over, or another program has it");
    if (!this.fits(received, has)) return this.violated("an answer out of range");
    this.upSince = Date.now();
    this.start(received, has);
    this.put(`r ${this.received}`);
    this.onstate("up");
    this.write();
  }

  /** What was never written goes on in the new session. */
  replace(token, why) {
    const inDoubt = this.pending.splice(0, this.sent - this.confirmed).map((data) => data.slice(1));
    if (this.token) this.onstate("replaced", { why, inDoubt });
    this.begin(token);
  }

  violated(why) {
    this.replace(null, why);
    this.giveUp(why, 4002); // a page cannot say 1002
  }

  giveUp(why, code = 1000) {
    clearTimeout(this.timer);
    this.socket?.close(code);
    Object.assign(this, { socket: null, isUp: false }); // nothing of it counts any more
    if (this.isSuspended) return;
    if (this.final) return this.onstate("over", this.final);
    // an answer alone is no success: delays begin anew when a link has stayed up for a while
    if (Date.now() - this.upSince > this.stable) this.failures = 0;
    this.onstate("down", why);
    // full jitter: many clients that lose a server do not come back together
    this.timer = setTimeout(() => this.dial(), Math.random() * Math.min(this.most, this.delay * 2 ** this.failures++));
  }
}

function marked(kind, data) {
  if (typeof data === "string") return kind + data;
  const bytes = new Uint8Array(data.byteLength + 1);
  bytes[0] = kind.charCodeAt(0);
  bytes.set(new Uint8Array(data.buffer ?? data, data.byteOffset, data.byteLength), 1);
  return bytes;
}

const isEnd = (text) => /^e \d{4}( [^\p{Cc}]*)?$/u.test(text) && new TextEncoder().encode(text).length <= 130;
const letters = (bytes) => Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
const replace = (_, value) => (value instanceof Uint8Array ? { $bytes: btoa(letters(value)) } : value);
const revive = (_, value) => (value?.$bytes ? Uint8Array.from(atob(value.$bytes), (c) => c.charCodeAt(0)) : value);
