// The connection to the server: one stream of events while the tab is seen, opened again when it is lost.

import { addressOf } from "./addresses.js";

const RETRY = [500, 1000, 2000, 4000]; // milliseconds before each further attempt
const SILENCE = 5; // seconds without an event after which the server counts as lost, at least
const HEARTBEAT = 15; // seconds between two events at most, whatever the period is

export class Stream {
  #handlers;
  #source = null;
  #lastId = "";
  #isLive = false;
  #attempts = 0;
  #timer = 0;
  #watchdog = 0;
  #silence = SILENCE;

  // `handlers` has a function for each kind of event, and `connected` and `lost`.
  constructor(handlers) {
    this.#handlers = handlers;
    document.addEventListener("visibilitychange", () => this.open());
    addEventListener("online", () => this.open());
  }

  // Ticks come once a period, and something comes every 15 seconds.
  expectEvery(seconds) {
    this.#silence = Math.max(SILENCE, 3 * Math.min(seconds, HEARTBEAT));
  }

  // Only a tab that is seen has a stream: browsers open six connections to a server at most, over all tabs.
  open() {
    this.#close();
    if (document.hidden) return;
    const after = this.#lastId ? { after: this.#lastId } : {};
    this.#source = new EventSource(addressOf("events", after));
    this.#source.onerror = () => this.#lose();
    for (const kind of ["snapshot", "changes", "points", "tick"]) {
      this.#source.addEventListener(kind, (event) => this.#receive(kind, event));
    }
    this.#watch();
  }

  #receive(kind, event) {
    this.#lastId = event.lastEventId;
    this.#handlers[kind](JSON.parse(event.data));
    if (!this.#isLive) this.#handlers.connected();
    this.#isLive = true;
    this.#attempts = 0;
    this.#watch();
  }

  #lose() {
    this.#close();
    this.#isLive = false;
    this.#handlers.lost();
    const pause = RETRY[Math.min(this.#attempts, RETRY.length - 1)];
    this.#attempts += 1;
    this.#timer = setTimeout(() => this.open(), pause);
  }

  #watch() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#lose(), this.#silence * 1000);
  }

  #close() {
    this.#source?.close();
    this.#source = null;
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
  }
}
