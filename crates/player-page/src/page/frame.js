// The frame of the page: tools above, places at the left, notices, sign-in.

import { icon } from "./icons.js";
import { view as libraryView } from "./library.js";
import { html, live, nothing } from "./lit.js";
import { language, text } from "./texts.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {ReturnType<typeof html> | typeof nothing} Part */

/** @type {readonly import("./app.js").Place[]} */
const PLACES = ["library", "radio"];
const LANGUAGES = { en: "English", es: "Español", ru: "Русский", uk: "Українська" };

/**
 * The field that searches the place which is shown.
 * @param {App} app
 */
function search(app) {
  const [place, label] = app.place === "radio" ? [app.radio, text("search.radio")] : [app.library, text("search")];
  return html`<div class="search" role="search"><label class="unseen" for="search">${label}</label>${icon("search")}
    <input id="search" type="search" autocomplete="off" spellcheck="false" placeholder=${text("search.hint")} .value=${live(place.search)} @input=${(event) => place.type(event.target.value)}></div>`;
}

/** @param {App} app */
export const tools = (app) => html`
  ${app.state === "ready" ? search(app) : nothing}
  <label class="unseen" for="language">${text("language")}</label>
  <select id="language" class="pill" title=${text("language")} @change=${(event) => app.choose(event.target.value)}>
    ${Object.entries(LANGUAGES).map(([tag, name]) => html`<option value=${tag} lang=${tag} ?selected=${tag === language}>${name}</option>`)}</select>
  <button type="button" class="round" id="show-keys" aria-label=${text("keys")} title=${text("keys")} @click=${app.openHelp}>${icon("keys")}</button>
  ${app.state === "ready" && app.api.token && !app.settings.token ? html`<button type="button" class="round" id="sign-out" aria-label=${text("signout")} title=${text("signout")} @click=${app.signOut}>${icon("leave")}</button>` : nothing}`;

/** @param {App} app */
export const places = (app) => PLACES.filter((name) => name !== "radio" || app.radio.isThere).map((name) => html`
  <button type="button" id=${`go-${name}`} aria-current=${app.place === name ? "page" : nothing} @click=${() => app.go(name)}>${icon(name)}<span>${text(name)}</span></button>`);

/**
 * The notice above every place, in an element whose changes are said to screen readers.
 * @param {App} app
 */
export const notice = (app) => (navigator.onLine ? nothing : html`<p class="banner" id="offline">${text("offline")}${app.places.waiting > 0 ? html` ${text("offline.waiting", { count: app.places.waiting })}` : nothing}</p>`);

/** @param {App} app */
export const library = (app) => libraryView(app.library, { current: app.playback.track, isPlaying: app.playback.isPlaying }, {
  play: app.play, add: app.add, resume: (track, at) => app.play([track], 0, at),
});

/** @param {App} app */
export const signIn = (app) => html`<div class="signin card">
  <h1>${text("signin")}</h1>
  ${app.refusal ? html`<p class="warning" role="alert" id="signin-refused">${text(app.refusal)}</p>` : nothing}
  ${app.settings.signIn ? html`<button type="button" class="primary" id="provider" @click=${() => app.toProvider()}>${text("signin.provider")}</button><p class="or"><span>${text("or")}</span></p>` : nothing}
  <form id="signin" @submit=${(event) => app.signIn(event)}>
    <label for="token">${text("signin.token")}</label>
    <input id="token" type="password" required autocomplete="off" spellcheck="false">
    <button class=${app.settings.signIn ? "quiet" : "primary"} type="submit">${text("signin.go")}</button>
    <p class="about">${text("signin.why")}</p>
  </form></div>`;
