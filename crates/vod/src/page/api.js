// The films' API. The token lives in this object alone; without one a cookie may say who asks.

const PATIENCE = 10000; // ms for an answer
const MOST = 12; // films in one page of the list

/** A refusal of the server. */
export class Refusal extends Error {
  /** @param {Response} answer */
  constructor(answer, problem) {
    super(`status ${answer.status}`);
    this.status = answer.status;
    this.code = problem?.code ?? "";
    this.wait = 1000 * (Number(answer.headers.get("Retry-After")) || 0);
  }
}

export class Api {
  #token = null;
  #film;

  /** @param {string} film */
  constructor(film) {
    this.#film = film;
  }

  set token(token) {
    this.#token = token.trim().replace(/^Bearer /, "");
  }

  /** Opens a session: `{ manifest_url, session_id }`. */
  start(type) {
    return this.#call("POST", this.#path(""), { body: { manifest_type: type, grant: "path" } });
  }

  /** Where the user stopped: `{ user_id, position_seconds }`. */
  position() {
    return this.#call("GET", this.#path("/progress"));
  }

  /** Keeps a position; `leaving` while the page is closed. */
  report(report, leaving) {
    return this.#call("POST", this.#path("/progress"), { body: report, keepalive: leaving });
  }

  /** Ends the session with a last position. */
  stop(report) {
    return this.#call("POST", this.#path("/stop"), { body: report, keepalive: true });
  }

  /** Waits up to so many seconds for the end of a session: `{ live, ended }`. */
  session(id, wait, signal) {
    const query = new URLSearchParams({ session_id: id, wait });
    return this.#call("GET", this.#path(`/session?${query}`), { patience: PATIENCE + 1000 * wait, signal });
  }

  /** What can be continued: `{ items, nextCursor }`. */
  continued(cursor) {
    const query = new URLSearchParams({ kind: "film", limit: MOST, ...(cursor && { cursor }) });
    return this.#call("GET", `/api/v1/progress?${query}`);
  }

  #path(rest) {
    return `/api/v1/stream/${encodeURIComponent(this.#film)}${rest}`;
  }

  async #call(method, path, { body, keepalive = false, patience = PATIENCE, signal = null } = {}) {
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
