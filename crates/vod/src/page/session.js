// Whether the session lives: asked for in requests that wait for its end, so that a page with minutes in its buffer knows
// within seconds. Only while the film plays: by HTTP/1.1 a browser has six connections to a server, for all its pages.

import { Refusal } from "./api.js";
import { Retry } from "./retry.js";

const WAIT = 25; // seconds
const PAUSE = 1000; // ms between two questions at least

export class SessionWatch {
  #api;
  #ended;
  /** @type {AbortController | null} */
  #asking = null;
  #retry = new Retry(() => this.#ask());
  /** @type {string | null} */
  #id = null;

  /**
   * @param {import("./api.js").Api} api
   * @param {(reason: string) => void} ended
   */
  constructor(api, ended) {
    this.#api = api;
    this.#ended = ended;
  }

  /**
   * The session that is watched while the film plays.
   * @param {string} id
   */
  follow(id) {
    this.leave();
    this.#id = id;
  }

  /** Watches from now on. */
  begin() {
    if (!this.#asking) this.#ask();
  }

  /** Watches no more until it is told to. */
  pause() {
    this.#retry.stop();
    this.#asking?.abort();
    this.#asking = null;
  }

  /** Watches none. */
  leave() {
    this.#id = null;
    this.pause();
  }

  /** Asks at once: something was refused. Returns the reason for the end, null while it lives. */
  async look() {
    if (!this.#id) return null;
    const { ended } = await this.#api.session(this.#id, 0);
    return ended;
  }

  async #ask() {
    const id = this.#id;
    if (!id) return;
    const asking = new AbortController();
    this.#asking = asking;
    try {
      const { ended } = await this.#api.session(id, WAIT, asking.signal);
      if (asking !== this.#asking) return;
      this.#retry.worked();
      if (ended) this.#over(ended);
      else setTimeout(() => asking === this.#asking && this.#ask(), PAUSE);
    } catch (error) {
      if (asking !== this.#asking) return;
      // The server has forgotten it; without a token there is another notice.
      const status = error instanceof Refusal ? error.status : null;
      if (status === 404) this.#over("expired");
      else if (status !== 401) this.#retry.later();
    }
  }

  /** @param {string} reason */
  #over(reason) {
    this.leave();
    this.#ended(reason);
  }
}
