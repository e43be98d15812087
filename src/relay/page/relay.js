// The share API as the host uses it. The token lives in this object alone.

import { wait } from "./socket.js";

const FULL = 256 * 1024; // bytes on their way: the line is slower than the sound, which goes on without them
const DAY = 86400;
const CROWD = 1000; // listeners at once with the link
const MOST_UNDERWAY = 8; // chunks of floats

/** A refusal of the server. */
export class Refusal extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

export class Relay {
  session = null;
  /** What was left out because the line was slow or away. */
  dropped = 0;
  #token;
  #on;
  #socket = null;
  #opus = true;
  #attempt = 0;
  #done = false;
  #underway = 0;

  /**
   * @param {string} token
   * @param {Record<string, (value?: any) => void>} on `state`, `count`, `ended`
   */
  constructor(token, on) {
    this.#token = token.replace(/^Bearer /, "");
    this.#on = on;
  }

  /** Begins a session; returns the link for listeners. */
  async start(wanted, opus) {
    this.#opus = opus;
    const { sessionId } = await this.#post("/api/share/start", wanted ? { sessionId: wanted } : {});
    this.session = sessionId;
    const ticket = await this.#ticket({ count: CROWD, ttl: DAY });
    if (opus) await this.#connect();
    else this.#on.state("sharing");
    return new URL(ticket.listen_url, location.href).href;
  }

  /** Sends a frame, or a chunk of floats. */
  send(bytes, label) {
    if (this.#opus) {
      const open = this.#socket?.readyState === WebSocket.OPEN && this.#socket.bufferedAmount < FULL;
      if (open) this.#socket.send(bytes);
      else this.dropped += 1;
    } else if (this.session && this.#underway < MOST_UNDERWAY) {
      this.#chunk(bytes, label);
    } else {
      this.dropped += 1;
    }
  }

  /** Says what is played. */
  async say(song) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ type: "meta", ...song }));
    else if (!this.#opus) await this.#post(`/api/share/${this.session}/metadata`, song);
  }

  /** How many listen, where nobody tells it. */
  async look() {
    if (this.#opus) return;
    const { listenerCount } = await this.#call("GET", `/api/share/${this.session}/status`);
    this.#on.count(listenerCount);
  }

  /** Ends the session. */
  async stop() {
    this.#done = true;
    this.#socket?.close();
    await this.#post(`/api/share/${this.session}/stop`, {});
  }

  async #connect() {
    // A ticket of its own for each time: the token must not stand in an address.
    const { ticket } = await this.#ticket({ role: "host" });
    const url = new URL(`/api/v1/share/${this.session}/ws`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.search = new URLSearchParams({ role: "host", ticket });
    const socket = new WebSocket(url);
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#heard(JSON.parse(data));
    socket.onclose = ({ reason }) => this.#lost(reason);
  }

  #heard(message) {
    if (message.type === "welcome") {
      this.#attempt = 0;
      this.#on.state("sharing");
    }
    if (message.type === "count") this.#on.count(message.listeners);
    if (message.type === "ended") this.#lost("ended");
  }

  async #lost(reason) {
    if (this.#done) return;
    if (reason === "ended" || reason === "replaced") {
      this.#done = true;
      return this.#on.ended(reason);
    }
    this.#on.state("reconnecting");
    await new Promise((done) => setTimeout(done, wait(this.#attempt)));
    this.#attempt += 1;
    if (this.#done) return;
    try {
      await this.#connect();
    } catch (error) {
      const over = error instanceof Refusal && [401, 404].includes(error.status);
      this.#lost(over ? "ended" : "");
    }
  }

  async #chunk(body, { sequence, rate }) {
    this.#underway += 1;
    const headers = {
      "Content-Type": "application/octet-stream",
      "X-Sample-Rate": rate,
      "X-Channels": 2,
      "X-Timestamp": Date.now(),
      "X-Sequence-Number": sequence,
    };
    try {
      await this.#call("POST", `/api/share/${this.session}/audio`, body, headers);
      this.#on.state("sharing");
    } catch (error) {
      this.dropped += 1;
      if (error.status === 404 && !this.#done) this.#lost("ended");
      else if (!this.#done) this.#on.state("reconnecting");
    } finally {
      this.#underway -= 1;
    }
  }

  #ticket(wanted) {
    return this.#post(`/api/v1/share/${this.session}/tickets`, wanted);
  }

  #post(path, body) {
    return this.#call("POST", path, JSON.stringify(body), { "Content-Type": "application/json" });
  }

  async #call(method, path, body, headers = {}) {
    const authorization = { Authorization: `Bearer ${this.#token}` };
    const answer = await fetch(path, { method, body, headers: { ...headers, ...authorization }, cache: "no-store" });
    if (!answer.ok) throw new Refusal(answer.status);
    return answer.json();
  }
}
