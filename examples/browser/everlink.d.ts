/** What client and server have in common. A page uses {@link Session}. */
export class Peer {
  /** A message of the peer's: once for each, in order. It is counted, also if this throws. */
  onmessage: (data: string | Uint8Array) => void;
  /** What the peer sends outside of the count. */
  onbeat: (data: string | Uint8Array) => void;
  /** The peer has counted more of what was sent. */
  onconfirmed: (number: number) => void;

  /** What is not confirmed, each with an `m` before it. Its length says when there is room for more. */
  readonly pending: readonly (string | Uint8Array)[];
  /** How the session has ended, or null. */
  readonly final: End | null;

  /** Sends a message of the session. Throws after `close`, and when the session is over. */
  send(data: string | ArrayBuffer | ArrayBufferView): void;
  /** Sends outside of the count: on this link, if there is one, and not again. */
  beat(data: string | ArrayBuffer | ArrayBufferView): void;
  /** Ends the session after what was sent. `final` is set when the peer has answered; until then it is tried again. */
  close(code?: number, reason?: string): void;
}

/** A session with a server that speaks `everlink.1`: nothing is lost, nothing comes twice, in order, both ways. */
export class Session extends Peer {
  /**
   * Begins a session, or takes up the one that the page before has stored. Dials when the current script is done, so
   * set the listeners at once.
   */
  constructor(url: string | URL, options?: SessionOptions);

  /** What happens, see {@link States}. */
  onstate: <Name extends keyof States>(state: Name, detail: States[Name]) => void;

  /** What `onsave` of the page before has returned, or null if this is another session. */
  readonly saved: unknown;

  /**
   * Stores what is needed to go on, and stops. `pagehide` calls it; other programs may. Needs `storage`. Throws if the
   * state does not fit, and so does a later `send`.
   */
  suspend(): void;
}

export interface SessionOptions {
  /** NAME of the subprotocol `everlink.1.NAME`; without it the subprotocol is `everlink.1`. */
  protocol?: string;
  /**
   * `sessionStorage`, for a session that survives a reload. Not `localStorage`: that is shared by all tabs, and a session
   * belongs to one. The token is in it while no page of this tab is alive: scripts of the same origin can read it.
   *
   * Not survived: a page that ends without `pagehide` (a crash, a phone that kills it), and a state that does not fit
   * into the storage (browsers keep about 5 MB). The next page begins a new session then, and does not know what was
   * unconfirmed.
   */
  storage?: Pick<Storage, "getItem" | "setItem" | "removeItem">;
  /** Where it is stored; by default a name made from URL and subprotocol. Two sessions of a page need two. */
  key?: string;
  /**
   * The page's own state, stored at the same moment as the session: anything that JSON can hold. A message that
   * `onmessage` was called with is not sent again after a reload, so what it has changed belongs here.
   */
  onsave?: () => unknown;
  /** Milliseconds; the first delay before a redial (1000), doubling, drawn between 0 and its length. */
  delay?: number;
  /** Milliseconds; the longest delay (30000). */
  most?: number;
  /** Milliseconds; delays begin anew when a link has stayed up for so long (10000). */
  stable?: number;
  /**
   * Milliseconds (20000). A link on which nothing has come for one to two of them is asked, and given up if nothing comes
   * for another one. A page does not see a message before it is whole: choose more than the largest takes on the slowest
   * network.
   */
  silence?: number;
  /** Milliseconds (10000) for the opening handshake and the answer to the offer. */
  opening?: number;
}

export interface States {
  /** Dials. */
  connecting: undefined;
  /** A link is up, and the session goes on. */
  up: undefined;
  /** There is no link. Says why, as far as a page can know. */
  down: string;
  /**
   * The session is over without an end, or another program has it. What was never written goes on in a new one; whether
   * the server has received what is `inDoubt` cannot be known.
   */
  replaced: { why: string; inDoubt: (string | Uint8Array)[] };
  /** The session has ended, by `close` or by the server. */
  over: End;
}

export interface End {
  /** As the codes of RFC 6455 section 7.4. */
  code: number;
  reason: string;
}
