// A session as one endless file in an <audio> element, for browsers without WebCodecs and for pages that are not secure;
// what happens in it comes as server-sent events. Has the face of Live.

import { problem, wait } from "./socket.js";

export class Plain {
  gaps = 0;
  #urls;
  #on;
  #audio = new Audio();
  #events = null;
  #playing = false;
  #ended = false;
  #attempt = 0;
  #breaks = 0;
  #stalls = 0;

  /**
   * @param {{ events: string, ogg: string }} urls
   * @param {Record<string, (value?: any) => void>} on
   */
  constructor(urls, on) {
    this.#urls = urls;
    this.#on = on;
    this.#audio.preload = "none";
    this.#audio.id = "stream";
    document.body.append(this.#audio);
    for (const name of ["ended", "error"]) this.#audio.addEventListener(name, () => this.#broke());
    for (const name of ["playing", "timeupdate"]) this.#audio.addEventListener(name, () => this.#sounds());
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
    this.#audio.removeAttribute("src");
    this.#audio.load();
  }

  set volume(value) {
    this.#audio.volume = value * value;
  }

  get figures() {
    const ahead = this.#audio.buffered.length ? this.#audio.buffered.end(0) - this.#audio.currentTime : 0;
    return { codec: "ogg", level: ahead, underruns: this.#stalls, breaks: this.#breaks };
  }

  #listen() {
    const events = new EventSource(this.#urls.events);
    this.#events = events;
    const hear = (name, then) => events.addEventListener(name, ({ data }) => then(JSON.parse(data)));
    hear("meta", (message) => this.#on.meta(message));
    hear("count", (message) => this.#on.count(message));
    hear("ended", () => this.#end("ended"));
    events.onopen = () => this.#on.hello({});
    events.onerror = () => this.#unheard();
  }

  async #unheard() {
    // The browser tries again by itself, except after a refusal.
    if (this.#ended || this.#events.readyState !== EventSource.CLOSED) return;
    const why = await problem(this.#urls.events);
    if (why) return this.#end(why);
    setTimeout(() => this.#ended || this.#listen(), wait(this.#attempt));
    this.#attempt += 1;
  }

  #sounds() {
    this.#attempt = 0;
    this.#on.level();
  }

  #broke() {
    if (!this.#playing || this.#ended) return;
    this.#breaks += 1;
    this.#on.state("reconnecting");
    setTimeout(() => this.#playing && !this.#ended && this.play(), wait(this.#attempt));
    this.#attempt += 1;
  }

  #end(state) {
    this.#ended = true;
    this.#events.close();
    if (state !== "ended") this.pause();
    this.#on.state(state);
  }
}
