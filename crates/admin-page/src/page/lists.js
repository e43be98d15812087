// What runs: live streams, destinations, routes, the last errors.

import { Refused, ask } from "./api.js";
import { element } from "./elements.js";
import { showRows } from "./rows.js";
import { number, text } from "./texts.js";
import { clock } from "./time.js";

/** Streams and routes on a page. */
const PAGE = 50;
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** Bytes of streams when they were last seen, by id. @type {Map<string, { bytes: number, at: number }>} */
let seen = new Map();
/** The page of streams that is shown; null is the first. @type {string | null} */
let cursor = null;

/** @param {number} bytes */
export function size(bytes) {
  let [value, unit] = [bytes, 0];
  while (value >= 1024 && unit + 1 < UNITS.length) [value, unit] = [value / 1024, unit + 1];
  return `${unit === 0 ? value : number(value)} ${UNITS[unit]}`;
}

/** @param {number | null} share of 1 */
export const percent = (share) => (share === null ? "–" : `${number(100 * share)} %`);

/**
 * @typedef {{ id: string, ageMs: number, protocol: string, tls: boolean, route: string, client: string | null, user: string | null,
 *   bytesSent: number, resumes: number, size: number | null, range: { first: number, last: number } | null, rate: number | null }} LiveStream
 */

/**
 * Bytes per second since it was last seen.
 * @param {LiveStream} stream
 * @param {number} now
 */
function rate(stream, now) {
  const before = seen.get(stream.id);
  return before && now > before.at ? (1000 * (stream.bytesSent - before.bytes)) / (now - before.at) : null;
}

/** @param {LiveStream} stream */
function length({ size: whole, range }) {
  if (range) return range.last - range.first + 1;
  return whole;
}

/** @param {string} words @returns {Promise<boolean>} */
export function confirmed(words) {
  const dialog = element("ask");
  // One question at a time: an answer is for the one that is read.
  if (dialog.open) return Promise.resolve(false);
  element("ask-text").textContent = words;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
  });
}

/** Shows what went wrong; set by the page. @type {(error: unknown) => void} */
let failed = (error) => { throw error; };

/** @param {(error: unknown) => void} show */
export function onFailure(show) {
  failed = show;
}

/** What tells a stream from others. @param {LiveStream} stream */
const named = ({ id, route, client }) => ({ id, route, client: client ?? "–" });

/** @param {LiveStream} stream */
async function end(stream) {
  if (!await confirmed(text("stream.end.sure", named(stream)))) return;
  try {
    await ask(`/streams/${stream.id}`, "DELETE").catch((error) => {
      // One that is over already is ended too.
      if (!(error instanceof Refused && error.status === 404)) throw error;
    });
    await showStreams();
  } catch (error) {
    failed(error);
  }
}

const STREAMS = [
  { name: "stream.id", kind: "code", show: (/** @type {LiveStream} */ one) => one.id },
  { name: "stream.route", show: (/** @type {LiveStream} */ one) => one.route },
  { name: "stream.client", show: (/** @type {LiveStream} */ one) => one.client ?? "" },
  { name: "stream.user", kind: "code", show: (/** @type {LiveStream} */ one) => one.user ?? "" },
  { name: "stream.protocol", show: (/** @type {LiveStream} */ one) => `${one.protocol}${one.tls ? " TLS" : ""}` },
  {
    name: "stream.sent", kind: "number",
    show: (/** @type {LiveStream} */ one) => {
      const whole = length(one);
      return whole === null ? size(one.bytesSent) : `${size(one.bytesSent)} / ${size(whole)}`;
    },
  },
  { name: "stream.rate", kind: "number", show: (/** @type {LiveStream} */ one) => (one.rate === null ? "" : `${size(Math.max(0, Math.round(one.rate)))}/s`) },
  { name: "stream.resumes", kind: "number", show: (/** @type {LiveStream} */ one) => String(one.resumes) },
  { name: "stream.age", kind: "number", show: (/** @type {LiveStream} */ one) => clock(one.ageMs / 1000) },
  {
    name: "stream.end", kind: "plain", press: (/** @type {LiveStream} */ one) => void end(one),
    label: (/** @type {LiveStream} */ one) => text("stream.end.of", named(one)),
  },
];

/** Shows the page of streams that was chosen. */
export async function showStreams() {
  const from = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
  const asked = cursor;
  /** @type {{ items: LiveStream[], total: number, nextCursor: string | null }} */
  const { items, total, nextCursor } = await ask(`/streams?limit=${PAGE}${from}`);
  // Another page was chosen meanwhile.
  if (asked !== cursor) return;
  const now = performance.now();
  for (const stream of items) stream.rate = rate(stream, now);
  seen = new Map(items.map((stream) => [stream.id, { bytes: stream.bytesSent, at: now }]));
  element("streams-total").textContent = text("streams.total", { count: total });
  showRows(element("streams"), STREAMS, items, (stream) => stream.id);
  element("streams-none").hidden = total > 0;
  element("streams-first").hidden = cursor === null;
  element("streams-next").hidden = nextCursor === null;
  element("streams-next").onclick = () => turn(nextCursor);
}

/** @param {string | null} to */
function turn(to) {
  cursor = to;
  showStreams().catch(failed);
}
element("streams-first").onclick = () => turn(null);

/**
 * @typedef {{ cluster: string, id: string, address: string, state: string, reason: string | null, inFlight: number }} Destination
 */

const DESTINATIONS = [
  { name: "destination.cluster", show: (/** @type {Destination} */ one) => one.cluster },
  { name: "destination.id", show: (/** @type {Destination} */ one) => one.id },
  { name: "destination.address", kind: "code", show: (/** @type {Destination} */ one) => one.address },
  {
    name: "destination.state", kind: (/** @type {Destination} */ one) => (one.state === "healthy" ? "" : "bad"),
    show: (/** @type {Destination} */ one) => text(`state.${one.state}`),
  },
  { name: "destination.reason", show: (/** @type {Destination} */ one) => one.reason ?? "" },
  { name: "destination.flight", kind: "number", show: (/** @type {Destination} */ one) => String(one.inFlight) },
];

/** Shows the destinations, those that are not in use first. */
export async function showDestinations() {
  /** @type {{ items: { id: string, destinations: Omit<Destination, "cluster">[] }[], storeFaults: string[] }} */
  const { items, storeFaults } = await ask("/clusters");
  const all = items.flatMap(({ id, destinations }) => destinations.map((one) => ({ ...one, cluster: id })));
  const isBad = (/** @type {Destination} */ one) => Number(one.state !== "healthy");
  all.sort((one, other) => isBad(other) - isBad(one));
  showRows(element("destinations"), DESTINATIONS, all, (one) => `${one.cluster}\n${one.id}`);
  const faults = element("faults");
  faults.hidden = storeFaults.length === 0;
  if (faults.dataset.shown === storeFaults.join("\n")) return;
  faults.dataset.shown = storeFaults.join("\n");
  faults.replaceChildren(...storeFaults.map((fault) => {
    const line = document.createElement("li");
    line.textContent = fault;
    return line;
  }));
}

/** @typedef {{ id: string, handler: string, cluster: string | null, requests: Record<string, number> }} Route */

/** @param {Route} route @param {string} status */
const counted = (route, status) => String(route.requests[status] ?? 0);
const ROUTES = [
  { name: "route.id", show: (/** @type {Route} */ one) => one.id },
  { name: "route.handler", show: (/** @type {Route} */ one) => text(`handler.${one.handler}`) },
  { name: "route.cluster", show: (/** @type {Route} */ one) => one.cluster ?? "" },
  { name: "route.good", kind: "number", show: (/** @type {Route} */ one) => String((one.requests["2xx"] ?? 0) + (one.requests["3xx"] ?? 0)) },
  { name: "route.refused", kind: "number", show: (/** @type {Route} */ one) => counted(one, "4xx") },
  { name: "route.failed", kind: (/** @type {Route} */ one) => (one.requests["5xx"] ? "number bad" : "number"), show: (/** @type {Route} */ one) => counted(one, "5xx") },
];

/** Shows the busiest routes. */
export async function showRoutes() {
  /** @type {{ items: Route[], total: number }} */
  const { items, total } = await ask(`/routes?limit=${PAGE}`);
  element("routes-total").textContent = text("routes.total", { shown: items.length, count: total });
  showRows(element("routes"), ROUTES, items, (route) => route.id);
}

/** @typedef {{ at: string, code: string, status: number, route: string | null, requestId: string, explained: string, detail: string }} Failure */

const ERRORS = [
  { name: "error.at", kind: "number", show: (/** @type {Failure} */ one) => new Date(one.at).toLocaleTimeString(document.documentElement.lang) },
  { name: "error.code", kind: "code", show: (/** @type {Failure} */ one) => one.code, link: (/** @type {Failure} */ one) => one.explained },
  { name: "error.status", kind: "number", show: (/** @type {Failure} */ one) => String(one.status) },
  { name: "error.route", show: (/** @type {Failure} */ one) => one.route ?? "" },
  { name: "error.detail", show: (/** @type {Failure} */ one) => one.detail },
  { name: "error.request", kind: "code", show: (/** @type {Failure} */ one) => one.requestId },
];

/** Shows the last errors. */
export async function showErrors() {
  /** @type {{ items: Failure[] }} */
  const { items } = await ask("/errors");
  element("errors-none").hidden = items.length > 0;
  showRows(element("errors"), ERRORS, items, (failure) => failure.requestId);
}
