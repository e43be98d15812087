// What the page does about what other windows, devices and bots have done: settings, seeks, stations that are to be played.

import { recall, remember } from "./memory.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {{ radio: { station: import("./radio.js").Station, play_url: string, now_url: string, expires_at: string }, schedule_id: string | null, schedule_name: string | null }} PlayCommand */

const KEY = "player.command";
/** ms after which a window takes a command: the one that plays first, and one that is seen before one that is hidden. */
const SHOWN = 200;
const HIDDEN = 600;

/**
 * True in one window of the browser, whichever asks first: all of them are told.
 * @param {PlayCommand} command
 * @param {boolean} isPlaying
 */
async function isTakenHere({ radio, schedule_id: schedule }, isPlaying) {
  if (!isPlaying) await new Promise((done) => setTimeout(done, document.hidden ? HIDDEN : SHOWN));
  const id = [schedule, radio.station.id, radio.expires_at].join(" ");
  const take = () => {
    const isFirst = recall(KEY) !== id;
    remember(KEY, id);
    return isFirst;
  };
  // Browsers have locks where the page came by HTTPS.
  return navigator.locks ? navigator.locks.request(KEY, take) : take();
}

/**
 * @param {App} app
 * @param {PlayCommand} command
 */
async function play(app, command) {
  const { visit } = app;
  const isHere = await isTakenHere(command, app.playback.isPlaying);
  if (visit !== app.visit) return;
  if (!isHere) return taken(app);
  const { radio, schedule_name: schedule } = command;
  app.radio.follow(radio.station.id, radio.now_url);
  app.say(schedule ? "radio.scheduled" : "radio.begun", { name: radio.station.name, schedule: schedule ?? "" });
  await app.playStation(radio.station, radio.play_url);
}

/** @param {App} app */
function taken(app) {
  if (!app.playback.isPlaying) return;
  app.playback.pause();
  app.live.begin();
  app.say("taken");
}

/**
 * @param {App} app
 * @returns {import("./live.js").Hears}
 */
export const heard = (app) => ({
  settings: () => app.applySound(),
  // The command is for what was played then.
  seek: (seconds, track) => { if (app.playback.track?.id === track) app.playback.seek(seconds); },
  taken: () => taken(app),
  play: (command) => void play(app, command),
});
