// One account: its card, which opens to the details.

import { Details } from "./details.js";
import { bar, course, el } from "./draw.js";
import { clock, figure, reasonText, text, until } from "./texts.js";

const POINTS = 59; // kept points; what is free now is the sixtieth
const HIGHLIGHT = 3000; // milliseconds

export class Card {
  #parts;
  #details;
  #points = [];
  #time = null;
  #isLost = false;
  #highlight = 0;

  constructor(row, number) {
    this.number = number;
    this.id = row.id;
    this.row = {};
    this.#parts = build(row.id, number);
    this.element = this.#parts.card;
    this.#details = new Details(this.#parts.details, row.id);
    this.#parts.button.addEventListener("click", () => this.#toggle());
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#details.isOpen) this.#toggle();
    });
    this.update(row);
  }

  // When the page has lost the server, nothing that it shows can be trusted to be new.
  get state() {
    return this.#isLost ? "stale" : this.row.state;
  }

  update({ course: points, ...changes }) {
    const before = this.row.free;
    Object.assign(this.row, changes);
    if (points) this.#points = points;
    const change = (this.row.free ?? 0) - (before ?? this.row.free ?? 0);
    if (change) this.#show(change);
    this.#draw();
    this.#drawCourse();
    this.#details.refresh();
  }

  addPoint(point) {
    this.#points = [...this.#points, point].slice(-POINTS);
    this.#drawCourse();
  }

  setTime(seconds) {
    this.#time = seconds;
    this.#drawTime();
  }

  setLost(isLost) {
    this.#isLost = isLost;
    this.#draw();
  }

  redraw() {
    this.#draw();
    this.#drawTime();
    this.#details.redraw();
  }

  #toggle() {
    this.#details.toggle();
    this.#parts.button.setAttribute("aria-expanded", this.#details.isOpen);
    this.element.classList.toggle("open", this.#details.isOpen);
    this.element.scrollIntoView({ block: "nearest" });
  }

  #draw() {
    const { row, state } = this;
    const { card, badge, reason, error, free, total, hours } = this.#parts;
    card.dataset.state = state;
    card.dataset.free = row.free ?? "";
    card.dataset.total = row.total ?? "";
    set(badge, text(`state.${state}`));
    set(reason, this.#isLost ? reasonText("Lost") : reasonText(row.reason));
    set(error, this.#isLost ? "" : row.text ?? "");
    set(free, figure(row.free));
    set(total, text("ofTotal", { total: figure(row.total) }));
    this.#parts.bar.set(row.free, row.total);
    set(hours, hoursText(row));
    hours.dataset.open = row.open ?? "";
  }

  #drawCourse() {
    this.#parts.course.set([...this.#points, this.row.free ?? null], this.row.total);
  }

  #drawTime() {
    set(this.#parts.time, this.#time === null ? "" : text("asOf", { time: clock(this.#time) }));
  }

  #show(change) {
    const { card, change: mark } = this.#parts;
    card.dataset.changed = change > 0 ? "up" : "down";
    mark.textContent = `${change > 0 ? "▲" : "▼"} ${figure(Math.abs(change))}`;
    clearTimeout(this.#highlight);
    this.#highlight = setTimeout(() => {
      delete card.dataset.changed;
      mark.textContent = "";
    }, HIGHLIGHT);
  }
}

// Text that stays the same is left alone: browsers lay out and screen readers speak what is set.
function set(element, value) {
  const words = String(value);
  if (element.textContent !== words) element.textContent = words;
}

function hoursText({ open, until: at, lines }) {
  if (open === null || open === undefined) return lines === null || lines === undefined ? "" : text("noHours");
  if (!at) return text(open ? "open" : "closed");
  return text(open ? "openUntil" : "closedUntil", { time: until(at) });
}

function build(id, number) {
  const [user, sub] = split(id);
  const details = `details-${number}`;
  const parts = {
    button: el("button", { type: "button", "aria-expanded": "false", "aria-controls": details },
      el("span", {}, user), sub && el("span", { class: "sub" }, `:${sub}`)),
    badge: el("span", { class: "badge" }),
    reason: el("p", { class: "reason" }),
    error: el("p", { class: "error" }),
    free: el("strong"),
    total: el("span", { class: "total" }),
    change: el("span", { class: "change", "aria-hidden": "true" }),
    bar: bar(),
    course: course(),
    hours: el("span", { class: "hours" }),
    time: el("span", { class: "time" }),
    details: el("div", { class: "details", id: details, hidden: "" }),
  };
  parts.card = el("li", { class: "account", "data-account": id },
    el("div", { class: "head" }, el("h2", {}, parts.button), parts.badge),
    parts.reason,
    parts.error,
    el("div", { class: "numbers" },
      el("p", { class: "free" }, parts.free, " ", parts.total, " ", parts.change), parts.course.element),
    parts.bar.element,
    el("p", { class: "foot" }, parts.hours, " ", parts.time),
    parts.details);
  return parts;
}

// The first colon: the ids of main accounts have none.
function split(id) {
  const at = id.indexOf(":");
  return at < 0 ? [id, ""] : [id.slice(0, at), id.slice(at + 1)];
}
