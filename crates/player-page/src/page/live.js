// The live player: settings of the sound on the server, and events from other windows, devices and bots.

import { refusalOf } from "./api.js";
import { recall, remember } from "./memory.js";
import { Retry } from "./retry.js";

/** @param {string} user */
const SOUND = (user) => `player.sound.${user}`;
/**
 * Changes that are not on the server yet, of all windows of the browser.
 * @param {string} user
 */
const CHANGES = (user) => `player.changes.${user}`;
const QUIET = 120; // ms after a change in which further ones wait until there are no more

/** @typedef {{ preset: string, bands: number[] }} Equalizer */
/** @typedef {{ speed: number, semitones: number, equalizer: Equalizer }} Sound */
/** @typedef {"starting" | "playing" | "paused" | "stopped"} PlayerState */

/** @typedef {[path: string, body: Record<string, any>]} Command */
/** @typedef {{ settings(): void, seek(seconds: number, track: string): void, taken(): void, play(command: import("./commands.js").PlayCommand): void }} Hears */

/**
 * Path and body of a command.
 * @param {keyof Sound} kind
 * @param {Sound[keyof Sound]} value
 * @returns {Command}
 */
function commandOf(kind, value) {
  if (kind === "speed") return ["speed", { speed: value }];
  if (kind === "semitones") return ["pitch", { semitones: value }];
  const { preset, bands } = /** @type {Equalizer} */ (value);
  return ["equalizer", preset === "custom" ? { bands } : { preset }];
}

/**
 * What the browser keeps as JSON.
 * @param {string} key
 * @returns {any} null where there is nothing that can be read
 */
function kept(key) {
  try {
    return JSON.parse(recall(key) ?? "null");
  } catch {
    // Another form, from another version.
    return null;
  }
}

/** @returns {Sound} */
const plain = () => ({ speed: 1, semitones: 0, equalizer: { preset: "flat", bands: Array(10).fill(0) } });

export class Live {
  speed = plain().speed;
  semitones = plain().semitones;
  equalizer = plain().equalizer;
  /** @type {string | null} */
  #user = null;
  #api;
  #hears;
  /**
   * Speed that is remembered for the track that plays; null where none is.
   * @type {number | null}
   */
  trackSpeed = null;
  /** @type {string | null} */
  #track = null;
  #revision = 0;
  #isThere = true;
  /**
   * What the server has not taken yet, by what is changed.
   * @type {Map<string, Command>}
   */
  #changed = new Map();
  /**
   * What of it is being sent: the changes of one user, one after the other.
   * @type {Map<string, Command> | null}
   */
  #sending = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {AbortController | null} */
  #listening = null;
  #retry = new Retry(() => this.listen());
  #resend = new Retry(() => this.flush());
  #session = crypto.randomUUID?.() ?? String(Math.random());
  #seq = 0;
  /** True once the server has taken a report of this session: what it tells of others before that is of the past. */
  #holds = false;
  /** True while another player of the user plays a track. */
  #othersPlay = false;

  /**
   * @param {import("./api.js").Api} api
   * @param {Hears} hears
   */
  constructor(api, hears) {
    this.#api = api;
    this.#hears = hears;
  }

  /**
   * Takes the sound that the browser keeps for a user, with what is not on the server yet, and nothing of anybody else.
   * @param {string | null} user null: nobody is known, and nothing is kept
   */
  belongTo(user) {
    this.#user = user;
    this.#changed = new Map();
    Object.assign(this, plain());
    if (user === null) return;
    const sound = kept(SOUND(user));
    if (sound) this.#take(sound);
    this.#changed = new Map(Object.entries(kept(CHANGES(user)) ?? {}));
  }

  /** Drops what the browser keeps for the user. */
  forget() {
    if (this.#user !== null) for (const key of [SOUND(this.#user), CHANGES(this.#user)]) remember(key, null);
    this.#user = null;
  }

  /** False where the server keeps no settings. */
  get isThere() {
    return this.#isThere;
  }

  /** Speed of what plays: that of the track where one is remembered, else that of the channel. */
  get playedSpeed() {
    return this.trackSpeed ?? this.speed;
  }

  /**
   * Takes all but what was changed here and is not on the server yet.
   * @param {Sound} sound
   */
  #take({ speed, semitones, equalizer }) {
    for (const [kind, value] of Object.entries({ speed, semitones, equalizer })) {
      if (!this.#changed.has(kind)) Object.assign(this, { [kind]: value });
    }
  }

  /**
   * Takes settings of the server, unless newer ones are known.
   * @param {Sound & { revision: number, track_id: string | null, track_speed: number | null }} told
   */
  #takeTold(told) {
    if (told.revision < this.#revision) return;
    this.#revision = told.revision;
    this.#take(told);
    const isTrack = told.track_id !== null && told.track_id === this.#track;
    if (isTrack && !this.#changed.has(`track ${told.track_id}`)) this.trackSpeed = told.track_speed;
    this.#remember();
    this.#hears.settings();
  }

  /**
   * Changes one thing: here at once, on the server soon, and again until it is taken.
   * @template {keyof Sound} Kind
   * @param {Kind} kind
   * @param {Sound[Kind]} value
   */
  change(kind, value) {
    Object.assign(this, { [kind]: value });
    this.#remember();
    this.#sendSoon(kind, commandOf(kind, value));
  }

  /**
   * Changes the speed of what plays, and of the track where one is remembered for it.
   * @param {number} speed
   */
  setSpeed(speed) {
    if (this.trackSpeed === null) this.change("speed", speed);
    else this.setTrackSpeed(speed);
  }

  /**
   * Remembers the speed of the track that plays; null forgets it.
   * @param {number | null} speed
   */
  setTrackSpeed(speed) {
    if (this.#track === null) return;
    this.trackSpeed = speed;
    this.#sendSoon(`track ${this.#track}`, ["speed", { track_id: this.#track, speed }]);
  }

  /**
   * Takes the speed that is remembered for a track which is loaded.
   * @param {string | null} track
   */
  follow(track) {
    if (track === this.#track) return;
    this.#track = track;
    // One that is not on the server yet counts.
    this.trackSpeed = this.#changed.get(`track ${track}`)?.[1].speed ?? null;
    this.#hears.settings();
    void this.#askTrackSpeed();
  }

  async #askTrackSpeed() {
    const track = this.#track;
    if (!this.#isThere || track === null) return;
    try {
      const told = await this.#api.get(`/api/v1/playback/settings?track_id=${encodeURIComponent(track)}`);
      // Not if it was changed meanwhile.
      if (track !== this.#track || this.#changed.has(`track ${track}`) || told.track_speed === this.trackSpeed) return;
      this.trackSpeed = told.track_speed;
      this.#hears.settings();
    } catch {
      // The channel's speed is as good; the next stream of events asks again.
    }
  }

  /**
   * Sends a change: at once where none was made just before, so that it is heard at once elsewhere; else with those that follow it.
   * @param {string} what
   * @param {Command} command
   */
  #sendSoon(what, command) {
    this.#changed.set(what, command);
    this.#keep(what, command);
    const isFirst = this.#timer === undefined;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.flush();
    }, QUIET);
    if (isFirst) void this.flush();
    this.#hears.settings();
  }

  #remember() {
    const { speed, semitones, equalizer } = this;
    if (this.#user !== null) remember(SOUND(this.#user), JSON.stringify({ speed, semitones, equalizer }));
  }

  /**
   * Keeps a change in the browser, since the page may be closed before the server has it.
   * @param {string} what
   * @param {Command} command
   * @param {boolean} isTaken the server has it: it is kept no longer, unless another window has made another one
   */
  #keep(what, command, isTaken = false) {
    if (this.#user === null) return;
    const { [what]: before, ...others } = kept(CHANGES(this.#user)) ?? {};
    const now = isTaken ? before && JSON.stringify(before) !== JSON.stringify(command) && before : command;
    const all = now ? { ...others, [what]: now } : others;
    remember(CHANGES(this.#user), Object.keys(all).length > 0 ? JSON.stringify(all) : null);
  }

  /** Sends what waits. */
  async flush() {
    const changed = this.#changed;
    if (!this.#isThere || this.#sending === changed) return;
    this.#sending = changed;
    const waits = await this.#send(changed);
    if (this.#sending === changed) this.#sending = null;
    // Its user has left.
    if (changed !== this.#changed) return;
    if (waits) return this.#resend.later();
    this.#resend.worked();
    // Changed meanwhile, and nothing has followed.
    if (changed.size > 0 && this.#timer === undefined) void this.flush();
  }

  /**
   * Sends changes, one after the other; returns true where the server takes none at the moment.
   * @param {Map<string, Command>} changed
   */
  async #send(changed) {
    for (const [what, command] of [...changed]) {
      const [path, body] = command;
      try {
        const told = await this.#api.send("PUT", `/api/v1/playback/${path}`, body);
        if (changed !== this.#changed) return false;
        // It has what others have changed meanwhile, too.
        this.#takeTold(told);
      } catch (error) {
        if (changed !== this.#changed) return false;
        const refused = refusalOf(error);
        if (refused?.passes || refused?.status === 401) return true;
        if (refused?.status === 404) this.#isThere = false;
      }
      this.#keep(what, command, true);
      // Not if it was changed meanwhile.
      if (changed.get(what) === command) changed.delete(what);
    }
    return false;
  }

  /**
   * Says what the player does.
   * @param {PlayerState} state
   * @param {import("./api.js").Track | null} track
   * @param {number} seconds
   * @param {number} length
   * @param {boolean} closing the page may end before there is an answer
   */
  report(state, track, seconds, length, closing = false) {
    if (!this.#isThere || !track) return;
    const duration = Number.isFinite(length) ? { duration_ms: Math.round(length * 1000) } : {};
    const report = {
      session_id: this.#session, seq: ++this.#seq, track_id: track.id, title: track.title.replace(/[<>]/g, "").slice(0, 120), state,
      position_ms: Math.round(seconds * 1000), ...duration,
    };
    this.#api.send("POST", "/api/v1/playback/report", report, closing).then(
      (told) => {
        if (report.session_id !== this.#session) return;
        if (told.session_id === this.#session) this.#holds = true;
        else this.#hear("player", told);
      },
      // The next report says it anew.
      () => {},
    );
  }

  /** Another player has the channel; to take it over again is to begin a session. */
  begin() {
    this.#session = crypto.randomUUID?.() ?? String(Math.random());
    this.#seq = 0;
    this.#holds = false;
  }

  /** Something plays that is not reported, such as a station: whoever plays from now on has the channel. */
  hold() {
    this.#holds = true;
  }

  /** Listens until the page ends. */
  async listen() {
    this.#listening?.abort();
    const listening = (this.#listening = new AbortController());
    void this.#askTrackSpeed();
    try {
      await this.#api.listen("/api/v1/playback/events?channel_id=main", listening.signal, (event, data) => {
        this.#retry.worked();
        this.#hear(event, data);
      });
    } catch (error) {
      const status = refusalOf(error)?.status;
      if (listening.signal.aborted || status === 401) return;
      if (status === 404) {
        this.#isThere = false;
        return;
      }
    }
    if (listening === this.#listening) this.#retry.later();
  }

  /** Hears and sends nothing more: the user has left. */
  leave() {
    this.#listening?.abort();
    this.#listening = null;
    this.#retry.stop();
    this.#resend.stop();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    // Versions are those of a user.
    this.#revision = 0;
    this.trackSpeed = this.#track = null;
    this.belongTo(null);
    this.#othersPlay = false;
    this.begin();
  }

  /**
   * @param {string} event
   * @param {any} data
   */
  #hear(event, data) {
    if (event === "settings") this.#takeTold(data);
    else if (event === "seek") this.#hears.seek(data.position_ms / 1000, data.track_id);
    // The player that plays takes the command; where none does, each device has one that may.
    else if (event === "play" && data.radio && !this.#othersPlay) this.#hears.play(data);
    else if (event === "player") {
      this.#othersPlay = data?.state === "playing" && data.session_id !== this.#session;
      if (this.#othersPlay && this.#holds) this.#hears.taken();
    }
  }
}
