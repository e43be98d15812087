// The chat of a session, on both pages: what is said, and a form to say something. Words of others are text and nothing
// else. On the host's page there is a switch as well.

import { element } from "./elements.js";
import { recall, remember } from "./memory.js";
import { language, text } from "./texts.js";

const KEPT = 200; // messages on the page
const NEAR = 24; // pixels from the end that are the end too

/** @typedef {{ id: number, at: number, name: string, text: string, host: boolean }} Message */

/**
 * An element with a text, whose direction is the text's own.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} textContent
 */
function part(tag, textContent) {
  return Object.assign(document.createElement(tag), { textContent, dir: "auto" });
}

export class Chat {
  #say;
  #known = new Set(); // the messages that are on the page
  /** @type {string | null} */
  #sent = null; // what was said here and has not come back yet
  #time = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });

  /** @param {(message: object) => boolean} say sends a message; false where that is not possible now */
  constructor(say) {
    this.#say = say;
    element("name").value = recall("name") ?? "";
    element("say").addEventListener("submit", (event) => { event.preventDefault(); this.#submit(); });
    element("switch")?.addEventListener("change", () => this.#ask());
    element("messages").addEventListener("scroll", () => { if (this.#atEnd) element("newer").hidden = true; });
    element("newer").addEventListener("click", () => { this.#toEnd(); element("messages").focus(); });
  }

  /** Another session has a chat of its own. */
  forget() {
    this.#known.clear();
    this.#sent = null;
    this.#trouble("");
    element("messages").replaceChildren();
    element("chat").hidden = true;
  }

  /**
   * How it stands, with the last messages; nothing where the server has no chat.
   * @param {{ on: boolean, last?: Message[] } | undefined} chat
   */
  greet(chat) {
    if (!chat) return;
    for (const message of chat.last ?? []) this.#add(message);
    this.#turn(chat.on);
  }

  /**
   * Takes a message of the chat: what somebody says, or how it stands.
   * @param {Message | { on: boolean, last?: Message[] }} message
   */
  hear(message) {
    if ("on" in message) this.greet(message);
    else this.#add(message);
  }

  /**
   * Takes a refusal; returns whether it was about something said here.
   * @param {string | undefined} why
   */
  refused(why) {
    if (this.#sent === null) return false;
    element("message").value ||= this.#sent;
    this.#sent = null;
    this.#trouble(why ? text("chat.refused", { why }) : text("chat.offline"));
    return true;
  }

  /**
   * Who listens sees a chat that is on; the host can switch it on.
   * @param {boolean} on
   */
  #turn(on) {
    const box = element("switch");
    const panel = element("chat");
    const seen = !panel.hidden;
    if (box) box.checked = on;
    panel.hidden = !on && !box;
    element("say").hidden = !on;
    if (!seen) this.#toEnd();
  }

  #ask() {
    const box = element("switch");
    if (this.#say({ type: "chat", on: box.checked })) return;
    box.checked = !box.checked;
    this.#trouble(text("chat.offline"));
  }

  /** @param {Message} message */
  #add(message) {
    // After a break the last ones come again.
    const key = `${message.id} ${message.name} ${message.text}`;
    if (this.#known.has(key)) return;
    this.#known.add(key);
    if (message.text === this.#sent) {
      this.#sent = null;
      this.#trouble("");
    }
    const end = this.#atEnd;
    const list = element("messages");
    list.append(this.#line(message));
    while (list.children.length > KEPT) this.#drop(list);
    if (end) this.#toEnd();
    else element("newer").hidden = false;
  }

  /** @param {Message} message */
  #line({ at, name, text: said, host }) {
    const when = new Date(at);
    const time = Object.assign(part("time", this.#time.format(when)), { dateTime: when.toISOString() });
    const line = document.createElement("p");
    line.append(time, " ", part("bdi", name || "?"), " ");
    if (host) line.append(Object.assign(part("span", text("chat.host")), { className: "badge" }), " ");
    line.append(part("span", said));
    return line;
  }

  /**
   * Takes the oldest away; what is read stays where it is.
   * @param {HTMLElement} list
   */
  #drop(list) {
    const before = list.scrollHeight;
    list.firstElementChild?.remove();
    this.#known.delete(this.#known.values().next().value);
    list.scrollTop -= before - list.scrollHeight;
  }

  get #atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = element("messages");
    return scrollHeight - scrollTop - clientHeight <= NEAR;
  }

  #toEnd() {
    element("messages").scrollTop = element("messages").scrollHeight;
    element("newer").hidden = true;
  }

  #submit() {
    const [name, said] = [element("name"), element("message")].map(({ value }) => value.trim());
    if (!name || !said) return;
    remember("name", name);
    if (!this.#say({ type: "chat", name, text: said })) return this.#trouble(text("chat.offline"));
    this.#trouble("");
    this.#sent = said;
    element("message").value = "";
  }

  /** @param {string} what */
  #trouble(what) {
    element("refusal").textContent = what;
    element("refusal").hidden = !what;
  }
}
