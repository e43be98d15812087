// What is changed by hand: the cache is emptied, the file compared and put in force.

import { Refused, ask } from "./api.js";
import { element } from "./elements.js";
import { confirmed } from "./lists.js";
import { showRows } from "./rows.js";
import { text } from "./texts.js";

/** Keys of the configuration that are shown at once. */
const MOST_KEYS = 500;

/** @typedef {{ path: string, value: string, line: number }} Key */
/** @typedef {{ path: string, before: string | null, after: string | null }} Change */

/** What is in force. @type {Key[]} */
let keys = [];

const KEYS = [
  { name: "key.path", kind: "code", show: (/** @type {Key} */ one) => one.path },
  { name: "key.value", kind: "code", show: (/** @type {Key} */ one) => one.value },
  { name: "key.line", kind: "number", show: (/** @type {Key} */ one) => String(one.line) },
];
const CHANGES = [
  { name: "key.path", kind: "code", show: (/** @type {Change} */ one) => one.path },
  { name: "change.before", kind: "code", show: (/** @type {Change} */ one) => one.before ?? "–" },
  { name: "change.after", kind: "code", show: (/** @type {Change} */ one) => one.after ?? "–" },
];

/** @param {unknown} error */
function reason(error) {
  if (!(error instanceof Refused)) return String(error);
  return error.message || text("problem.unreachable");
}

function showKeys() {
  const wanted = element("settings-filter").value.trim().toLowerCase();
  const found = keys.filter(({ path, value }) => `${path} ${value}`.toLowerCase().includes(wanted));
  showRows(element("settings-keys"), KEYS, found.slice(0, MOST_KEYS), (key) => key.path);
}

async function loadKeys() {
  if (!element("settings").open) return;
  try {
    const { file, keys: found } = await ask("/config");
    keys = found;
    element("settings-file").textContent = text("settings.file", { file, count: keys.length });
  } catch (error) {
    element("settings-file").textContent = reason(error);
  }
  showKeys();
}

/** @param {string} report */
function showReport(report) {
  element("report").textContent = report;
  element("report").hidden = report === "";
}

async function compare() {
  showReport("");
  try {
    /** @type {{ changes: Change[], secret_files: string[], needs_restart: string[] }} */
    const { changes, secret_files: secrets, needs_restart: restart } = await ask("/config/diff");
    const said = [text("compare.changes", { count: changes.length })];
    if (secrets.length > 0) said.push(text("compare.secrets", { files: secrets.join(", ") }));
    if (restart.length > 0) said.push(text("compare.restart", { keys: restart.join(", ") }));
    element("reload-said").textContent = said.join(" ");
    showRows(element("changes"), CHANGES, changes, (change) => change.path);
  } catch (error) {
    element("reload-said").textContent = text("compare.failed");
    element("changes").hidden = true;
    showReport(reason(error));
  }
}

async function reload() {
  // A second press while it runs would be a second reload.
  element("reload").disabled = true;
  try {
    await compare();
    if (element("report").hidden && await confirmed(text("reload.sure"))) await putInForce();
  } finally {
    element("reload").disabled = false;
  }
}

async function putInForce() {
  try {
    const { report } = await ask("/reload", "POST");
    element("reload-said").textContent = text("reload.done");
    showReport(report);
  } catch (error) {
    element("reload-said").textContent = text("reload.refused");
    showReport(reason(error));
  }
  element("changes").hidden = true;
  await loadKeys();
}

/** @param {SubmitEvent} event */
async function purge(event) {
  event.preventDefault();
  const scope = element("purge-scope").value;
  const value = element("purge-value").value;
  const sure = scope === "all" ? text("purge.sure.all") : text("purge.sure", { what: value });
  if (!await confirmed(sure)) return;
  try {
    const { durable } = await ask("/cache/purge", "POST", scope === "all" ? { all: true } : { [scope]: value });
    element("purge-said").textContent = text(durable ? "purge.done" : "purge.forgotten");
  } catch (error) {
    element("purge-said").textContent = reason(error);
  }
}

function scopeChanged() {
  const isAll = element("purge-scope").value === "all";
  element("purge-named").hidden = isAll;
  element("purge-value").required = !isAll;
}

/** Makes the buttons work. */
export function begin() {
  element("settings").addEventListener("toggle", loadKeys);
  element("settings-filter").addEventListener("input", showKeys);
  element("compare").addEventListener("click", compare);
  element("reload").addEventListener("click", reload);
  element("purge").addEventListener("submit", purge);
  element("purge-scope").addEventListener("change", scopeChanged);
}
