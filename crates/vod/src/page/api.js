// The films' API. The token lives in this object alone; without one a cookie may say who asks.

const PATIENCE = 10000; // ms for an answer
const MOST = 12; // films in one page of the list

/**
 * @typedef {object} Report a position in the film
 * @property {number} position_seconds
 * @property {number} timestamp
 * @property {number} [duration_seconds]
 * @property {string} [session_id]
 */
/** @typedef {{ id: string, positionMs: number, durationMs: number | null }} Continued a film that can be continued */
/** @typedef {{ manifest_url: string, session_id: string }} Session */
/** @typedef {{ user_id: string, position_seconds: number, last_watched_at: string | null }} Position */
/**
 * @typedef {object} Options
 * @property {object} [body]
 * @property {boolean} [keepalive]
 * @property {number} [patience] ms
 * @property {AbortSignal | null} [signal]
 */

/** A refusal of the server. */
export class Refusal extends Error {
  /**
   * @param {Response} answer
   * @param {{ code?: string } | null} problem
   */
  constructor(answer, problem) {
    super(`status ${answer.status}`);
    this.status = answer.status;
    this.code = problem?.code ?? "";
    this.wait = 1000 * (Number(answer.headers.get("Retry-After")) || 0);
  }
}

export class Api {
  /** @type {string | null} */
  #token = null;
  #film;

  /** @param {string} film */
  constructor(film) {
    this.#film = film;
  }

  /** @param {string} token */
  set token(token) {
    this.#token = token.trim().replace(/^Bearer /, "");
  }

  /**
   * Opens a session.
   * @param {string} type of its manifest
   * @returns {Promise<Session>}
   */
  start(type) {
    return this.#call("POST", this.#path(""), { body: { manifest_type: type, grant: "path" } });
  }

  /**
   * Where the user stopped.
   * @returns {Promise<Position>}
   */
  position() {
    return this.#call("GET", this.#path("/progress"));
  }

  /**
   * Keeps a position; `leaving` while the page is closed.
   * @param {Report} report
   * @param {boolean} leaving
   */
  report(report, leaving) {
    return this.#call("POST", this.#path("/progress"), { body: report, keepalive: leaving });
  }

  /**
   * Ends the session with a last position.
   * @param {Report} report
   */
  stop(report) {
    return this.#call("POST", this.#path("/stop"), { body: report, keepalive: true });
  }

  /**
   * Waits up to so many seconds for the end of a session.
   * @param {string} id
   * @param {number} wait
   * @param {AbortSignal | null} signal
   * @returns {Promise<{ live: boolean, ended: string | null }>}
   */
  session(id, wait, signal = null) {
    const query = new URLSearchParams({ session_id: id, wait: String(wait) });
    return this.#call("GET", this.#path(`/session?${query}`), { patience: PATIENCE + 1000 * wait, signal });
  }

  /**
   * What can be continued.
   * @param {string | null} cursor
   * @returns {Promise<{ items: Continued[], nextCursor: string | null }>}
   */
  continued(cursor) {
    const query = new URLSearchParams({ kind: "film", limit: String(MOST), ...(cursor && { cursor }) });
    return this.#call("GET", `/api/v1/progress?${query}`);
  }

  /** @param {string} rest */
  #path(rest) {
    return `/api/v1/stream/${encodeURIComponent(this.#film)}${rest}`;
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {Options} options
   */
  async #call(method, path, { body, keepalive = false, patience = PATIENCE, signal = null } = {}) {
    /** @type {Record<string, string>} */
    const headers = {};
    if (this.#token) headers.Authorization = `Bearer ${this.#token}`;
    if (body) headers["Content-Type"] = "application/json";
    const limits = [AbortSignal.timeout(patience), ...(signal ? [signal] : [])];
    const answer = await fetch(path, {
      method, headers, keepalive, body: body && JSON.stringify(body), signal: AbortSignal.any(limits), cache: "no-store",
    });
    if (!answer.ok) throw new Refusal(answer, await answer.json().catch(() => null));
    return answer.json();
  }
}
