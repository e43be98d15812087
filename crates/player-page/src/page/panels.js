// Panels beside the list: the queue and the sound. Keys, in a dialogue.

import { BANDS, PRESETS } from "./audio/presets.js";
import { SPEEDS, muteButton, repeatButton, shuffleButton, times } from "./deck.js";
import { cover, icon } from "./icons.js";
import { KEYS } from "./keys.js";
import { html, live, nothing, repeat } from "./lit.js";
import { MINUTES } from "./sleep.js";
import { language, text } from "./texts.js";
import { clock } from "./time.js";

/** @typedef {import("./app.js").App} App */

/**
 * @param {App} app
 * @param {import("./app.js").Panel} name
 * @param {import("./frame.js").Part} extra
 */
export function panelHead(app, name, extra = nothing) {
  return html`<div class="head"><h2 id="side-title" tabindex="-1">${text(`panel.${name}`)}</h2>${extra}
    <button type="button" class="round" id="close" aria-label=${text("close")} title=${text("close")} @click=${() => app.show(name)}>${icon("close")}</button></div>`;
}

/**
 * Focuses a tool of a row of the queue: one that is moved or removed loses the focus.
 * @param {number} index
 * @param {string} tool
 */
function focusTool(index, tool) {
  requestAnimationFrame(() => {
    const row = document.getElementById("queue")?.children[index];
    const wanted = row?.querySelector(`[data-tool=${tool}]:enabled`) ?? row?.querySelector("[data-tool]:enabled") ?? document.getElementById("side-title");
    if (wanted instanceof HTMLElement) wanted.focus();
  });
}

/** @param {App} app */
export function queuePanel(app) {
  const { queue } = app;
  const clear = html`<button type="button" class="quiet" id="clear" @click=${() => { queue.clear(); focusTool(0, "remove"); }} ?disabled=${queue.items.length < 2}>${text("queue.clear")}</button>`;
  if (queue.items.length === 0) return html`${panelHead(app, "queue")}<div class="empty">${icon("queue")}<h3>${text("queue.empty")}</h3><p>${text("queue.empty.why")}</p></div>`;
  /** @type {(from: number, to: number, tool: string) => void} */
  const move = (from, to, tool) => { queue.move(from, to); focusTool(to, tool); };
  return html`${panelHead(app, "queue", clear)}
    <div class="queue-tools"><p class="about">${text("queue.count", { count: queue.items.length })}</p>
      ${shuffleButton(app, "queue-shuffle", "below-38")}${repeatButton(app, "queue-repeat", "below-38")}</div>
    <ol class="tracks narrow" id="queue">${repeat(queue.items, (entry) => entry, (track, index) => html`
      <li class="track">
        <button type="button" class="track-play" aria-current=${index === queue.index ? "true" : nothing} @click=${() => app.jump(index)}>
          ${cover(track.album ?? track.title)}<span class="words"><span class="title">${track.title}</span><span class="about">${track.artist ?? ""}</span></span></button>
        <span class="row-tools">
          <button type="button" class="round small" ?disabled=${index === 0} aria-label=${text("queue.up", { title: track.title })} data-tool="up" @click=${() => move(index, index - 1, "up")}>${icon("up")}</button>
          <button type="button" class="round small" ?disabled=${index === queue.items.length - 1} aria-label=${text("queue.down", { title: track.title })} data-tool="down" @click=${() => move(index, index + 1, "down")}>${icon("down")}</button>
          <button type="button" class="round small" aria-label=${text("queue.remove", { title: track.title })} data-tool="remove" @click=${() => { app.remove(index); focusTool(Math.min(index, queue.items.length - 1), "remove"); }}>${icon("close")}</button>
        </span>
      </li>`)}</ol>`;
}

/** @param {number} band */
const hertz = (band) => (band >= 1000 ? `${band / 1000}k` : String(Math.round(band)));
/** @param {number} gain */
const decibels = (gain) => text("decibels", { gain: new Intl.NumberFormat(language, { signDisplay: "exceptZero", maximumFractionDigits: 1 }).format(gain) });

/** @param {App} app */
export function soundPanel(app) {
  const { playedSpeed: speed, semitones, equalizer } = app.live;
  const signed = new Intl.NumberFormat(language, { signDisplay: "exceptZero" }).format(semitones);
  const near = SPEEDS.reduce((best, stop, n) => (Math.abs(stop - speed) < Math.abs(SPEEDS[best] - speed) ? n : best), 0);
  /** @type {(n: number, gain: number) => void} */
  const change = (n, gain) => app.live.change("equalizer", { preset: "custom", bands: app.live.equalizer.bands.map((old, m) => (m === n ? gain : old)) });
  return html`${panelHead(app, "sound", html`<button type="button" class="quiet" id="reset" @click=${app.resetSound}>${text("sound.reset")}</button>`)}
    <div class="field below-68"><label for="sound-volume">${text("volume")}</label>${muteButton(app, "sound-mute")}
      <input type="range" id="sound-volume" min="0" max="100" step="5" .value=${live(String(app.volume))} @input=${(event) => app.setVolume(Number(event.target.value))}></div>
    <div class="field"><label for="speed-stop">${text("speed")}</label><output>${times(speed)}</output>
      <input type="range" id="speed-stop" min="0" max="21" step="1" aria-valuetext=${times(speed)} .value=${live(String(near))} @input=${(event) => app.live.setSpeed(SPEEDS[Number(event.target.value)])}></div>
    ${app.live.isThere && app.playback.track ? html`<label class="check"><input type="checkbox" id="track-speed" .checked=${live(app.live.trackSpeed !== null)} @change=${(event) => app.live.setTrackSpeed(event.target.checked ? speed : null)}> ${text("speed.track")}</label>` : nothing}
    <div class="field"><label for="pitch">${text("pitch")}</label><output>${text("semitones", { signed, count: Math.abs(semitones) })}</output>
      <input type="range" id="pitch" min="-12" max="12" step="1" aria-valuetext=${text("semitones", { signed, count: Math.abs(semitones) })} .value=${live(String(semitones))} @input=${(event) => app.live.change("semitones", Number(event.target.value))}></div>
    ${app.pitchFails ? html`<p class="warning" role="alert">${text("pitch.fails")}</p>` : nothing}
    <div class="field"><label for="preset">${text("equalizer")}</label>
      <select id="preset" class="pill" .value=${live(equalizer.preset)} @change=${(event) => app.preset(event.target.value)}>
        ${[...Object.keys(PRESETS), "custom"].map((name) => html`<option value=${name} ?selected=${name === equalizer.preset}>${text(`preset.${name}`)}</option>`)}</select></div>
    <fieldset class="bands"><legend class="unseen">${text("equalizer")}</legend>${BANDS.map((band, n) => html`
      <div class="band"><output>${new Intl.NumberFormat(language, { signDisplay: "exceptZero" }).format(equalizer.bands[n])}</output>
        <input type="range" id=${`band-${n}`} min="-12" max="12" step="1" aria-label=${text("band", { hertz: hertz(band) })} aria-valuetext=${decibels(equalizer.bands[n])} aria-orientation="vertical" .value=${live(String(equalizer.bands[n]))} @input=${(event) => change(n, Number(event.target.value))}>
        <span aria-hidden="true">${hertz(band)}</span></div>`)}</fieldset>
    ${sleepField(app)}`;
}

/** @param {App} app */
function sleepField({ sleep }) {
  /** @type {import("./sleep.js").SleepChoice[]} */
  const choices = ["off", ...MINUTES, "track"];
  /** @param {import("./sleep.js").SleepChoice} choice */
  const name = (choice) => (choice === "off" ? text("sleep.off") : choice === "track" ? text("sleep.track") : text("sleep.minutes", { count: choice }));
  return html`<div class="field"><label for="sleep">${text("sleep")}</label>
      <select id="sleep" class="pill" .value=${live(String(sleep.choice))} @change=${(event) => sleep.choose(choices.find((choice) => String(choice) === event.target.value) ?? "off")}>
        ${choices.map((choice) => html`<option value=${choice} ?selected=${choice === sleep.choice}>${name(choice)}</option>`)}</select>
      ${sleep.seconds > 0 ? html`<output id="sleep-left">${text("sleep.left", { left: clock(sleep.seconds) })}</output>` : nothing}</div>`;
}

/**
 * The keys of the page.
 * @param {App} app
 */
export function help(app) {
  return html`<dialog id="keys" aria-labelledby="keys-title" @close=${app.helpClosed}>
    <div class="head"><h2 id="keys-title">${text("keys")}</h2>
      <button type="button" class="round" aria-label=${text("close")} @click=${(event) => event.target.closest("dialog")?.close()}>${icon("close")}</button></div>
    <dl>${KEYS.map(([key, what]) => html`<dt><kbd>${key}</kbd></dt><dd>${text(what)}</dd>`)}</dl>
    <label class="check"><input type="checkbox" id="keys-on" .checked=${live(app.keysOn)} @change=${(event) => app.setKeys(event.target.checked)}> ${text("keys.on")}</label>
  </dialog>`;
}
