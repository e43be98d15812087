// The demo's page: lists tracks, plays one through the proxy, and shows what the proxy answers.

const element = (id) => document.getElementById(id);
const audio = element("audio");
const ROWS = 40; // of the table of requests
const PROBE = 1024; // bytes that are asked for to show an answer

let source = { prefix: "", token: "", tracks: [] };
let current = null;

// --- Tracks ---------------------------------------------------------------------------------------------------------

async function refresh() {
  const answer = await fetch("tracks.json");
  if (!answer.ok) return complain(`The list of tracks cannot be read (${answer.status}).`);
  source = await answer.json();
  element("tracks").replaceChildren(...source.tracks.map(item));
  if (source.tracks.length === 0) complain("There is no audio file in the folder.");
  else if (!current) choose(source.tracks[0]);
  else mark();
}

function item(track) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.key = track.key;
  button.append(text("span", track.title), text("small", `${kind(track)} · ${size(track.size)}`));
  button.addEventListener("click", () => { choose(track); audio.play().catch(() => {}); });
  const line = document.createElement("li");
  line.append(button);
  return line;
}

function choose(track) {
  current = track;
  complain("");
  audio.src = url(track);
  element("now").textContent = track.title;
  element("about").textContent = `${track.key} · ${kind(track)} · ${size(track.size)}`;
  const path = location.origin + source.prefix + encodePath(track.key);
  element("command").textContent =
    `curl -sS -D - -o /dev/null -r 0-99 \\\n  -H "Authorization: Bearer ${source.token}" \\\n  "${path}"`;
  mark();
  draw();
  ask("HEAD", null);
}

function mark() {
  for (const button of element("tracks").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(button.dataset.key === current.key));
  }
}

const encodePath = (key) => key.split("/").map(encodeURIComponent).join("/");
const url = (track) => `${source.prefix}${encodePath(track.key)}?access_token=${encodeURIComponent(source.token)}`;
const kind = (track) => track.media_type.replace("audio/", "").replace("x-", "").toUpperCase();
const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

// --- What the proxy answers -----------------------------------------------------------------------------------------

async function ask(method, range) {
  const track = current;
  const begun = performance.now();
  const headers = range ? { Range: range } : {};
  try {
    const answer = await fetch(url(track), { method, headers, cache: "no-store" });
    const bytes = method === "HEAD" ? answer.headers.get("content-length") : (await answer.arrayBuffer()).byteLength;
    const took = performance.now() - begun;
    row("page", range ?? `${method} ${track.key}`, answer.status,
      answer.headers.get("content-range"), bytes, took);
    return answer.status;
  } catch {
    row("page", `${method} ${range ?? track.key}`, "no answer", null, null, performance.now() - begun);
    return 0;
  }
}

function row(who, what, status, contentRange, bytes, took) {
  const line = document.createElement("tr");
  const verdict = typeof status !== "number" ? "" : status < 300 ? "good" : "bad";
  const count = bytes === null || bytes === undefined ? "–" : Number(bytes).toLocaleString("en");
  line.append(text("td", who), text("td", what), text("td", status), text("td", (contentRange ?? "–").replace("bytes ", "")),
    text("td", count), text("td", took === null ? "–" : `${took.toFixed(took < 10 ? 1 : 0)} ms`));
  line.children[2].className = verdict;
  const table = element("requests");
  table.prepend(line);
  while (table.children.length > ROWS) table.lastChild.remove();
}

// The player's own requests, as far as the browser tells: when one ends, its status, size and time.
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (!["audio", "video"].includes(entry.initiatorType)) continue;
    const path = new URL(entry.name).pathname.slice(source.prefix.length);
    row("player", decodeURIComponent(path), entry.responseStatus || "–", null,
      entry.encodedBodySize || null, entry.duration || null);
  }
}).observe({ type: "resource", buffered: true });

audio.addEventListener("seeking", () => {
  if (!current || !audio.duration) return;
  const first = Math.min(current.size - 1, Math.floor((audio.currentTime / audio.duration) * current.size));
  clearTimeout(audio.probe); // dragging seeks many times
  audio.probe = setTimeout(() => ask("GET", `bytes=${first}-${first + PROBE - 1}`), 150);
});

audio.addEventListener("error", async () => {
  const status = await ask("HEAD", null);
  complain(status === 401 ? "The token is no longer good: start the demo again and reload this page."
    : status >= 200 && status < 300 ? "This browser cannot play that file."
    : `The proxy does not give this track (${status || "no answer"}).`);
});

// --- What is buffered -----------------------------------------------------------------------------------------------

function draw() {
  const canvas = element("buffered");
  const paint = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const { width, height } = canvas;
  paint.clearRect(0, 0, width, height);
  let loaded = 0;
  const spans = [];
  if (audio.duration > 0) {
    const at = (seconds) => (seconds / audio.duration) * width;
    paint.fillStyle = style.getPropertyValue("--have");
    for (let n = 0; n < audio.buffered.length; n += 1) {
      const [start, end] = [audio.buffered.start(n), audio.buffered.end(n)];
      loaded += end - start;
      spans.push(`${clock(start)} to ${clock(end)}`);
      paint.fillRect(at(start), 0, Math.max(2, at(end) - at(start)), height);
    }
    paint.fillStyle = style.getPropertyValue("--accent");
    paint.fillRect(Math.min(width - 5, at(audio.currentTime)), 0, 5, height);
  }
  const share = audio.duration > 0 ? Math.round((loaded / audio.duration) * 100) : 0;
  element("loaded").textContent = spans.length > 0 ? `· ${share} % in ${spans.length} ${spans.length === 1 ? "piece" : "pieces"}` : "";
  canvas.setAttribute("aria-label", spans.length > 0 ? `Buffered: ${spans.join(", ")}` : "Nothing is buffered yet");
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

for (const event of ["progress", "timeupdate", "seeked", "loadedmetadata", "emptied"]) {
  audio.addEventListener(event, draw);
}

// A click into the bar seeks, as in the player's own.
element("buffered").addEventListener("click", (event) => {
  const box = event.currentTarget.getBoundingClientRect();
  if (audio.duration > 0) audio.currentTime = ((event.clientX - box.left) / box.width) * audio.duration;
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

// --- Keys, buttons, words -------------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || !(audio.duration > 0)) return;
  if (!(event.target instanceof Element) || event.target.closest("audio, input, textarea, pre, .scroll")) return; // these have keys of their own
  if (event.key === " " && event.target.closest("button")) return;
  if (event.key === " ") audio.paused ? audio.play().catch(() => {}) : audio.pause();
  else if (event.key === "ArrowLeft") audio.currentTime = Math.max(0, audio.currentTime - 5);
  else if (event.key === "ArrowRight") audio.currentTime = Math.min(audio.duration, audio.currentTime + 5);
  else if (/^[0-9]$/.test(event.key)) audio.currentTime = (Number(event.key) / 10) * audio.duration;
  else return;
  event.preventDefault();
});

element("refresh").addEventListener("click", () => refresh().catch(unreachable));
element("clear").addEventListener("click", () => element("requests").replaceChildren());
element("copy").addEventListener("click", async (event) => {
  const button = event.currentTarget;
  await navigator.clipboard.writeText(element("command").textContent);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

function text(tag, content) {
  const made = document.createElement(tag);
  made.textContent = content;
  return made;
}

function complain(problem) {
  element("problem").textContent = problem;
  element("problem").hidden = problem === "";
}

const unreachable = () => complain("Tidegate does not answer. Is the demo still running?");

refresh().catch(unreachable);
