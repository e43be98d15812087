// Requests to the admin address. The token is kept as long as the tab is open, and nowhere else.

const TOKEN = "tidegate.admin.token";
/** ms that an answer may take. */
const PATIENCE = 30000;

/** An answer that is none: its status, and what it says. */
export class Refused extends Error {
  /**
   * @param {number} status 0 where there was no answer
   * @param {string} detail
   */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** @param {string | null} token */
export function keepToken(token) {
  if (token === null) sessionStorage.removeItem(TOKEN);
  else sessionStorage.setItem(TOKEN, token);
}

/**
 * Asks, and returns the answer's JSON; null where it has no body. Throws `Refused`.
 * @param {string} path
 * @param {string} method
 * @param {unknown} body
 * @returns {Promise<any>}
 */
export async function ask(path, method = "GET", body = undefined) {
  const token = sessionStorage.getItem(TOKEN);
  /** @type {Record<string, string>} */
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  /** @type {Response} */
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, body: body === undefined ? null : JSON.stringify(body), signal: AbortSignal.timeout(PATIENCE), cache: "no-store",
    });
  } catch {
    throw new Refused(0, "");
  }
  const text = await answer.text().catch(() => "");
  /** @type {any} */
  let said = null;
  try {
    said = text === "" ? null : JSON.parse(text);
  } catch {
    // What is no JSON is told by its status.
  }
  if (!answer.ok) throw new Refused(answer.status, said?.detail ?? text);
  return said;
}
