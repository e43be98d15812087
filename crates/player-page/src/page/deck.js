// The player's controls at the foot of the page.

import { cover, icon } from "./icons.js";
import { html, live, nothing } from "./lit.js";
import { language, text } from "./texts.js";
import { clock, spoken } from "./time.js";

/** The 22 stops of the list of speeds. */
export const SPEEDS = [...Array(11).keys()].map((n) => (50 + 5 * n) / 100).concat([1.1, 1.2, 1.25, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2]);

/** @param {number} speed */
export const times = (speed) => `${new Intl.NumberFormat(language, { maximumFractionDigits: 2 }).format(speed)}×`;

/** @typedef {import("./app.js").App} App */

/**
 * The deck; `app` has the state and what the buttons do.
 * @param {App} app
 */
export function deck(app) {
  const { playback } = app;
  const { track, station, problem } = playback;
  const isPlaying = playback.isPlaying;
  const label = isPlaying ? text("pause") : text("play");
  const waits = isPlaying && playback.element.readyState < 3;
  return html`
    <div class="now">
      ${cover(track?.album ?? track?.title ?? station?.name ?? "", "", station ? "radio" : "note")}
      <div class="words"><p class="title" id="title">${track?.title ?? station?.name ?? ""}</p>
        <p class="about" id="artist">${problem ? html`<span class="warning" role="alert">${text(problem.key)}</span>` : station ? app.radio.title ?? text("radio.live") : track?.artist ?? ""}</p></div>
    </div>
    <div class="transport">
      <div class="buttons">
        ${shuffleButton(app, "shuffle", "only-wide")}
        <button type="button" class="round" id="previous" aria-label=${text("previous")} title=${text("previous")} @click=${app.previous} ?disabled=${!track}>${icon("previous")}</button>
        <button type="button" class="round play ${waits ? "waits" : ""}" id="play" aria-label=${label} title=${label} @click=${app.toggle}>${icon(isPlaying ? "pause" : "play")}</button>
        <button type="button" class="round" id="next" aria-label=${text("next")} title=${text("next")} @click=${app.next} ?disabled=${!track}>${icon("next")}</button>
        ${repeatButton(app, "repeat", "only-wide")}
      </div>
      ${station ? html`<p class="on-air"><span class="dot" aria-hidden="true"></span>${text("radio.live")}</p>` : seekBar(app)}
    </div>
    <div class="extras">
      <label class="unseen" for="speed">${text("speed")}</label>
      <select id="speed" class="pill only-wide" title=${text("speed")} .value=${live(String(app.live.playedSpeed))} @change=${(event) => app.live.setSpeed(Number(event.target.value))}>
        ${speeds(app.live.playedSpeed).map((speed) => html`<option value=${speed} ?selected=${speed === app.live.playedSpeed}>${times(speed)}</option>`)}</select>
      ${panelButton(app, "sound")}${app.lyrics.isThere ? panelButton(app, "lyrics") : nothing}${panelButton(app, "queue")}
      <span class="volume only-wide">
        ${muteButton(app, "mute")}
        <input type="range" id="volume" min="0" max="100" step="5" aria-label=${text("volume")} .value=${live(String(app.volume))} @input=${(event) => app.setVolume(Number(event.target.value))}>
      </span>
    </div>`;
}

/**
 * Buttons that stand in the deck, and in a panel where the deck is too narrow for them.
 * @param {App} app
 * @param {string} id
 * @param {string} [more] a class
 */
export const shuffleButton = ({ queue, playback }, id, more = "") => html`<button type="button" class="round ${more}" id=${id} aria-pressed=${String(queue.shuffle)} aria-label=${text("shuffle")} title=${text("shuffle")} @click=${() => queue.toggleShuffle()} ?disabled=${!playback.track}>${icon("shuffle")}</button>`;

/**
 * @param {App} app
 * @param {string} id
 * @param {string} [more] a class
 */
export function repeatButton({ queue, playback }, id, more = "") {
  const name = text(`repeat.${queue.repeat}`);
  return html`<button type="button" class="round ${more}" id=${id} aria-pressed=${String(queue.repeat !== "off")} aria-label=${name} title=${name} @click=${() => queue.toggleRepeat()} ?disabled=${!playback.track}>${icon(queue.repeat === "one" ? "one" : "repeat")}</button>`;
}

/**
 * @param {App} app
 * @param {string} id
 */
export const muteButton = (app, id) => html`<button type="button" class="round" id=${id} aria-pressed=${String(app.muted)} aria-label=${text("mute")} title=${text("mute")} @click=${app.mute}>${icon(app.muted ? "muted" : "loud")}</button>`;

/** @param {number} own */
const speeds = (own) => (SPEEDS.includes(own) ? SPEEDS : [...SPEEDS, own].sort((one, other) => one - other));

/**
 * @param {App} app
 * @param {import("./app.js").Panel} panel
 */
function panelButton(app, panel) {
  const name = text(`panel.${panel}`);
  return html`<button type="button" class="round" id=${`show-${panel}`} aria-expanded=${String(app.panel === panel)} aria-controls="side" aria-label=${name} title=${name} @click=${() => app.show(panel)}>${icon(panel)}</button>`;
}

/**
 * A time, or dashes where it is not known.
 * @param {number} seconds
 */
const shown = (seconds) => (Number.isFinite(seconds) ? clock(seconds) : "–:––");

/** @param {App} app */
function seekBar(app) {
  const { playback } = app;
  const [at, length] = [playback.seconds, playback.length];
  const known = Number.isFinite(length);
  const said = known ? text("seek.of", { at: spoken(at), length: spoken(length) }) : text("seek.unknown");
  return html`<div class="seek">
    <span class="time" id="elapsed">${shown(at)}</span>
    <span class="rail"><canvas id="loaded" width="1000" height="4" role="img" aria-label=${loaded(playback.element)}></canvas>
      <input type="range" id="seek" min="0" max=${known ? length : 0} step="0.1" aria-label=${text("seek")} aria-valuetext=${said} ?disabled=${!known} .value=${live(String(at))} @input=${(event) => playback.seek(Number(event.target.value))}></span>
    <span class="time" id="length">${shown(length)}</span>
  </div>`;
}

/**
 * @param {HTMLMediaElement} element
 * @returns {[number, number][]} parts of the length
 */
function spans({ buffered, duration }) {
  if (!(duration > 0) || !Number.isFinite(duration)) return [];
  return Array.from({ length: buffered.length }, (_, n) => [buffered.start(n) / duration, buffered.end(n) / duration]);
}

/** @param {HTMLMediaElement} element */
function loaded(element) {
  const share = spans(element).reduce((sum, [from, to]) => sum + to - from, 0);
  return text("loaded", { percent: new Intl.NumberFormat(language, { style: "percent" }).format(Math.min(1, share)) });
}

/**
 * Draws what is loaded and what was heard.
 * @param {HTMLMediaElement} element
 */
export function paint(element) {
  const canvas = /** @type {HTMLCanvasElement | null} */ (document.getElementById("loaded"));
  const pen = canvas?.getContext("2d");
  if (!canvas || !pen) return;
  const style = getComputedStyle(canvas);
  /** @type {(colour: string, from: number, to: number) => void} */
  const bar = (colour, from, to) => {
    pen.fillStyle = style.getPropertyValue(colour);
    pen.fillRect(from * canvas.width, 0, (to - from) * canvas.width, canvas.height);
  };
  bar("--rail", 0, 1);
  for (const [from, to] of spans(element)) bar("--loaded", from, to);
  if (element.duration > 0) bar("--heard", 0, element.currentTime / element.duration);
}
