// A session as one endless file in an <audio> element, for browsers without WebCodecs and for pages that are not secure;
// what happens in it comes as server-sent events. Has the face of Live.

import { Retry } from "./retry.js";
import { problem } from "./socket.js";

export class Plain {
  /** As of Live: what an element plays goes through no context. */
  context = null;
  output = null;
  gaps = 0;
  #urls;
  #on;
  #audio = new Audio();
  /** @type {EventSource | null} */
  #events = null;
  #playing = false;
  #greeted = false;
  #ended = false;
  #hearAgain = new Retry(() => this.#listen());
  #playAgain = new Retry(() => this.play());
  #breaks = 0;
  #stalls = 0;

  /**
   * @param {{ events: string, ogg: string, chat: string }} urls
   * @param {Record<string, (value?: any) => void>} on
   */
  constructor(urls, on) {
    this.#urls = urls;
    this.#on = on;
    this.#audio.preload = "none";
    this.#audio.id = "stream";
    document.body.append(this.#audio);
    for (const name of ["ended", "error"]) this.#audio.addEventListener(name, () => this.#broke());
    this.#audio.addEventListener("playing", () => this.#sounds());
    this.#audio.addEventListener("timeupdate", () => this.#on.level());
    this.#audio.addEventListener("waiting", () => { this.#stalls += 1; this.#on.level(); });
    on.state("connecting");
    this.#listen();
  }

  now() {
    return Date.now() * 1000;
  }

  /** Nobody knows how much an element keeps ahead of what it plays. */
  get delay() {
    return null;
  }

  get sounding() {
    return this.#playing && !this.#audio.paused && this.#audio.readyState > 2;
  }

  async play() {
    this.#playing = true;
    this.#audio.src = this.#urls.ogg;
    // Refused loading is said by the element's events.
    await this.#audio.play().catch(() => {});
  }

  async pause() {
    this.#playing = false;
    this.#playAgain.stop();
    this.#audio.removeAttribute("src");
    this.#audio.load();
  }

  /** @param {number} value */
  set volume(value) {
    this.#audio.volume = value * value;
  }

  get figures() {
    const ahead = this.#audio.buffered.length ? this.#audio.buffered.end(0) - this.#audio.currentTime : 0;
    return { codec: "ogg", level: ahead, underruns: this.#stalls, breaks: this.#breaks };
  }

  /**
   * Says something to the session: in a request, since events come one way only.
   * @param {object} message
   */
  say(message) {
    this.#post(message);
    return true;
  }

  /** @param {object} message */
  async #post(message) {
    const headers = { "Content-Type": "application/json" };
    try {
      const answer = await fetch(this.#urls.chat, { method: "POST", body: JSON.stringify(message), headers });
      if (!answer.ok) this.#on.error(await answer.json());
    } catch {
      this.#on.error({});
    }
  }

  #listen() {
    const events = new EventSource(this.#urls.events);
    this.#events = events;
    for (const name of ["meta", "count", "host", "chat", "recording"]) {
      events.addEventListener(name, ({ data }) => this.#on[name](JSON.parse(data)));
    }
    events.addEventListener("ended", () => this.#end("ended"));
    events.onopen = () => {
      this.#hearAgain.worked();
      this.#greeted = true;
      // What else there is to say comes as events.
      this.#on.hello({});
    };
    events.onerror = () => this.#unheard();
  }

  async #unheard() {
    if (this.#ended) return;
    // The browser tries again by itself, except after a refusal.
    const refused = this.#events?.readyState === EventSource.CLOSED;
    const why = refused ? await problem(this.#urls.events) : null;
    if (this.#ended) return;
    if (why) return this.#end(why);
    this.#on.state("reconnecting");
    if (refused) this.#hearAgain.later();
  }

  #sounds() {
    this.#playAgain.worked();
    if (!this.#ended && this.#events?.readyState === EventSource.OPEN) this.#on.state("connected");
  }

  async #broke() {
    if (!this.#playing || this.#ended) return;
    this.#breaks += 1;
    this.#on.state("reconnecting");
    const why = await problem(this.#urls.ogg);
    if (this.#ended || !this.#playing) return;
    if (why) this.#end(why);
    else this.#playAgain.later();
  }

  /** @param {string} why */
  #end(why) {
    // Who has heard the session knows that it was there.
    const state = why === "gone" && this.#greeted ? "ended" : why;
    this.#ended = true;
    this.#hearAgain.stop();
    this.#events?.close();
    if (state === "ended") this.#playAgain.stop();
    else this.pause();
    this.#on.state(state);
  }
}
