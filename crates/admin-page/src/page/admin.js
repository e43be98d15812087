// The operator's page: sign-in, and a look at the process every few seconds.

import { Refused, ask, keepToken } from "./api.js";
import { begin } from "./changes.js";
import { element } from "./elements.js";
import { onFailure, percent, showDestinations, showErrors, showRoutes, showStreams, size } from "./lists.js";
import { recall, remember } from "./memory.js";
import { showFacts } from "./rows.js";
import { change, fill, language, speak, text } from "./texts.js";
import { clock } from "./time.js";

/** ms between two looks. */
const PACE = 5000;

/** Requests and bytes at the last look. @type {{ requests: number, at: number } | null} */
let before = null;
/** True while a look is under way. */
let isLooking = false;

/** @param {"signin" | "ready"} state */
function show(state) {
  document.body.dataset.state = state;
  element("signin").hidden = state !== "signin";
  element("view").hidden = state !== "ready";
  element("leave").hidden = state !== "ready" || sessionStorage.length === 0;
}

/** @param {string} said empty for none */
function trouble(said) {
  element("trouble").textContent = said;
  element("trouble").hidden = said === "";
}

async function showOverview() {
  const status = await ask("/status");
  const now = performance.now();
  const perSecond = before && now > before.at && status.requests >= before.requests ? (1000 * (status.requests - before.requests)) / (now - before.at) : null;
  before = { requests: status.requests, at: now };
  showFacts(element("overview"), [
    [text("overview.health"), text(`health.${status.health.status}`)],
    [text("overview.version"), status.version],
    [text("overview.uptime"), clock(status.health.uptime ?? 0)],
    [text("overview.connections"), String(status.connections)],
    [text("overview.streams"), String(status.liveStreams)],
    [text("overview.requests"), perSecond === null ? "–" : String(Math.round(perSecond))],
    [text("overview.bytes"), size(status.objectBytes)],
  ]);
  element("cache").hidden = !status.hasCache;
  /** @type {Record<string, number>} */
  const counts = status.cache;
  const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const hits = (counts.hit ?? 0) + (counts.revalidated ?? 0);
  showFacts(element("cache-counts"), [
    [text("cache.share"), percent(all === 0 ? null : hits / all)],
    ...Object.entries(counts).map(([state, count]) => /** @type {[string, string]} */ ([text(`cache.${state}`), String(count)])),
  ]);
}

/** @param {unknown} error */
function failed(error) {
  if (!(error instanceof Refused)) throw error;
  if (error.status === 401) {
    const wasSent = sessionStorage.length > 0;
    keepToken(null);
    show("signin");
    element("signin-refused").hidden = !wasSent;
    element("signin-refused").textContent = wasSent ? text("signin.refused") : "";
    if (!wasSent) element("token").focus();
    return trouble("");
  }
  trouble(error.status === 0 ? text("problem.unreachable") : error.message);
}

/** Looks at the process, and shows what it does. */
async function look() {
  if (isLooking) return;
  isLooking = true;
  try {
    // One after the other: a wrong token is counted once.
    await showOverview();
    if (document.body.dataset.state !== "ready") show("ready");
    await Promise.all([showStreams(), showDestinations(), showRoutes(), showErrors()]);
    trouble("");
  } catch (error) {
    failed(error);
  } finally {
    isLooking = false;
  }
}

element("signin").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(element("token").value);
  element("token").value = "";
  void look();
});
element("leave").addEventListener("click", () => {
  keepToken(null);
  location.reload();
});
element("language").addEventListener("change", () => {
  const chosen = element("language").value;
  remember("language", chosen);
  change(chosen);
  void look();
});

speak(recall("language"));
fill();
element("language").value = language;
begin();
onFailure(failed);
void look();
setInterval(() => {
  // Also where the first look failed: nobody is asked for a token then.
  if (!document.hidden && document.body.dataset.state !== "signin") void look();
}, PACE);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && document.body.dataset.state === "ready") void look();
});
