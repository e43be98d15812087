// The server's API: JSON with the user's token, and streams of events.

const TIMEOUT = 12_000;

/** @typedef {"audio" | "audiobook" | "podcast"} ListeningKind under which the server keeps where a listener is */
/** @typedef {{ id: string, title: string, artist: string | null, album: string | null, kind?: ListeningKind, contentType?: string | null, sizeBytes?: number | null }} Track */
/** @typedef {{ items: Track[], nextCursor: string | null }} TrackPage */

/** A refusal (`status`), or no answer at all (`status` 0). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} [code]
   */
  constructor(status, code = "") {
    super(`${status} ${code}`);
    this.status = status;
    this.code = code;
  }

  /** True where trying again may help. */
  get passes() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/**
 * The refusal in what was thrown; null where it is something else.
 * @param {unknown} error
 */
export const refusalOf = (error) => (error instanceof ApiError ? error : null);

export class Api {
  /** @type {string | null} */
  token = null;
  #refused;

  /** @param {() => void} refused called where the token is not good */
  constructor(refused) {
    this.#refused = refused;
  }

  /** @returns {Record<string, string>} */
  get #headers() {
    return this.token ? { Authorization: `Bearer ${this.token}` } : {};
  }

  /**
   * @param {string} path
   * @param {{ method?: string, body?: object, signal?: AbortSignal, keepalive?: boolean }} [options]
   */
  async #ask(path, { method = "GET", body, signal, keepalive = false } = {}) {
    const { token } = this;
    const headers = { ...this.#headers, ...(body === undefined ? {} : { "Content-Type": "application/json" }) };
    const limit = AbortSignal.timeout(TIMEOUT);
    /** @type {RequestInit} */
    const request = {
      method, headers, keepalive, cache: "no-store", signal: signal ? AbortSignal.any([signal, limit]) : limit,
      body: body === undefined ? undefined : JSON.stringify(body),
    };
    let answer;
    try {
      answer = await fetch(path, request);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError(0);
    }
    if (answer.ok) return answer;
    const told = await answer.json().catch(() => ({}));
    // A late answer to a user who has left says nothing about the next one.
    if (answer.status === 401 && token === this.token) this.#refused();
    throw new ApiError(answer.status, told.code);
  }

  /**
   * @param {string} path
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  async get(path, signal) {
    return (await this.#ask(path, { signal })).json();
  }

  /**
   * Sends a body; returns the answer, null where it is empty. `keepalive` outlives the page.
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   * @param {boolean} [keepalive]
   * @returns {Promise<any>}
   */
  async send(method, path, body, keepalive = false) {
    const answer = await this.#ask(path, { method, body, keepalive });
    return answer.status === 204 ? null : answer.json();
  }

  /**
   * Reads server-sent events until the stream ends; `EventSource` could send no token.
   * @param {string} path
   * @param {AbortSignal} signal
   * @param {(event: string, data: any) => void} heard
   */
  async listen(path, signal, heard) {
    const { token } = this;
    const answer = await fetch(path, { headers: this.#headers, cache: "no-store", signal });
    if (answer.status === 401 && token === this.token) this.#refused();
    if (!answer.ok) throw new ApiError(answer.status);
    if (!answer.body) return;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const events = (rest + value).split(/\r?\n\r?\n/);
      rest = events.pop() ?? "";
      for (const event of events) {
        /** @param {string} name */
        const field = (name) => event.split(/\r?\n/).filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trim()).join("\n");
        if (field("data")) heard(field("event") || "message", JSON.parse(field("data")));
      }
    }
  }

  /**
   * The id of the user, whom the token or a cookie names.
   * @returns {Promise<string>}
   */
  async user() {
    return (await this.get("/api/v1/usage")).user_id;
  }

  /**
   * @param {string} search
   * @param {string | null} cursor
   * @param {AbortSignal} signal
   * @returns {Promise<TrackPage>}
   */
  tracks(search, cursor, signal) {
    const query = new URLSearchParams({ limit: "60" });
    if (search) query.set("q", search);
    if (cursor) query.set("cursor", cursor);
    return this.get(`/api/v1/tracks?${query}`, signal);
  }

  /**
   * A track as the list has it.
   * @param {string} id
   * @returns {Promise<Track>}
   */
  track(id) {
    return this.get(`/api/v1/tracks/${encodeURIComponent(id)}`);
  }

  /**
   * The path by which an element plays a track.
   * @param {string} id
   */
  async streamPath(id) {
    const { streamUrl } = await this.get(`/api/v1/tracks/${encodeURIComponent(id)}/stream-url`);
    // Of this origin whatever the server's public name is: the page's policy knows no other.
    const { pathname, search } = new URL(streamUrl, location.href);
    return pathname + search;
  }
}
