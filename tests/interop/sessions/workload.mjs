// What a program under test sends and expects: WORKLOAD.md. For Node and for browsers.

export const TIMES = { delay: 50, most: 400, stable: 1000, silence: 700, opening: 2000 }; // milliseconds
export const SERVER_TIMES = { window: 30000, silence: 2000 };
const ALPHABET = "abcdefghijklmnopqrstuvwxyz";
const QUEUED = 512; // so many messages are queued or unconfirmed at most

function message(index, size, direction) {
  const words = () => `${index} ${size} ${direction} `;
  while (size < words().length) size = words().length;
  const filled = ALPHABET.repeat(size / 26 + 2).slice(index % 26);
  return index % 97 === 0 ? "" : words() + filled.slice(0, size - words().length);
}

const asSent = (text, index) => (index % 3 === 0 ? new TextEncoder().encode(text) : text);

export class Workload {
  index = 0; // of the latest that was received
  received = 0;
  sent = 0;
  twice = 0;
  lost = 0;
  links = 0;
  sessions = 1;
  fault = null;

  constructor(direction, { count, seed, ends }) {
    Object.assign(this, { direction, count, seed, ends });
  }

  fill(session) {
    while (this.sent < this.count && session.pending.length < QUEUED) {
      const index = ++this.sent;
      const drawn = (index * 2654435761 + this.seed * 40503) % 2 ** 32;
      const most = drawn % 100 === 0 ? 300 * 1024 : drawn % 100 < 10 ? 8192 : 200;
      session.send(asSent(message(index, Math.floor(drawn / 100) % most, this.direction), index));
    }
  }

  take(data) {
    const following = this.index + 1;
    const isText = typeof data === "string";
    const text = isText ? data : new TextDecoder().decode(data);
    const [index, size] = text ? text.split(" ", 2).map(Number) : [following, 0];
    const isRight = text === message(index, size, this.direction === "c" ? "s" : "c") && isText === (index % 3 !== 0);
    if (index !== following || !isRight) {
      this.fault ??= `in place of message ${following} came ${text.slice(0, 40)}, ${text.length} characters`;
    }
    this.received += 1;
    this.twice += index < following;
    this.lost += Math.max(0, index - following);
    this.index = Math.max(this.index, index);
  }

  /** An end's part. */
  run(session) {
    const goOn = () => {
      this.fill(session);
      if (this.ends === this.direction && this.index === this.count && !session.pending.length) session.close();
    };
    session.onconfirmed = goOn;
    session.onmessage = (data) => {
      this.take(data);
      goOn();
    };
    if (!session.ending) goOn();
  }

  /** The client's: calls `done` when the session is over. */
  runClient(session, done) {
    session.onstate = (state) => {
      this.links += state === "up";
      this.sessions += state === "replaced";
      if (state === "over") done(this.ended(session));
    };
    this.run(session);
  }

  ended(session, sessions = this.sessions) {
    const { received, twice, lost } = this;
    if (!session.final) this.fault ??= "no end";
    if (session.pending.length || this.index !== this.count || sessions !== 1) {
      this.fault ??= `${session.pending.length} unconfirmed`;
    }
    return { received, twice, lost, links: this.links || session.links, sessions, fault: this.fault };
  }
}

/** `--count N --seed S --timeout SECONDS --ends END` */
export function options(words) {
  const value = (name, otherwise) => (words.includes(name) ? Number(words[words.indexOf(name) + 1]) : otherwise);
  const ends = words.includes("server") ? "s" : "c";
  return { count: value("--count", 1000), seed: value("--seed", 1), timeout: value("--timeout", 120), ends };
}
