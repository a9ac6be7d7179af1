// What an opened account shows, fetched when it is opened and again when the account changes.

import { ask } from "./addresses.js";
import { bar, dayStrip, el } from "./draw.js";
import { dayNames, figure, outcomeText, text } from "./texts.js";

const AGAIN = 1000; // milliseconds between two questions at least
const MONDAY_FIRST = [1, 2, 3, 4, 5, 6, 0];

export class Details {
  #element;
  #id;
  #data = null;
  #timer = 0;
  #sections = {};

  constructor(element, id) {
    this.#element = element;
    this.#id = id;
  }

  get isOpen() {
    return !this.#element.hidden;
  }

  toggle() {
    this.#element.hidden = !this.#element.hidden;
    clearTimeout(this.#timer);
    this.#timer = 0;
    if (!this.isOpen) return;
    if (!this.#data) this.#say("loading");
    this.#fetch();
  }

  refresh() {
    if (this.isOpen) this.#timer ||= setTimeout(() => this.#fetch(), AGAIN);
  }

  redraw() {
    this.#sections = {};
    if (this.#data) this.#draw();
  }

  async #fetch() {
    this.#timer = 0;
    const data = await ask("account", { id: this.#id });
    if (data) {
      this.#data = data;
      this.#draw();
    } else if (!this.#data) this.#say("noDetails");
  }

  #say(key) {
    this.#element.replaceChildren(el("p", { class: "muted" }, text(key)));
  }

  // Sections that did not change stay as they are, so that what somebody marks in them stays marked.
  #draw() {
    let isNew = this.#element.childElementCount !== Object.keys(this.#sections).length;
    for (const [name, draw] of Object.entries(DRAWN)) {
      const data = this.#data[name];
      const shape = JSON.stringify(data.map(withoutNumbers));
      const known = this.#sections[name];
      if (known?.shape === shape) known.update?.(data);
      else {
        this.#sections[name] = { shape, ...draw(data) };
        isNew = true;
      }
    }
    if (isNew) {
      this.#element.replaceChildren(...Object.values(this.#sections).map(({ element }) => element));
    }
  }
}

const DRAWN = {
  outbound: (data) => lines("outbound", data),
  inbound: (data) => lines("inbound", data),
  hours: (data) => ({ element: section("hours", data.map(hours), "groups") }),
  scripts: (data) => ({ element: section("scripts", data.map(script), "chips") }),
  rules: (data) => ({ element: section("rules", data.map(rule), "groups") }),
};

function withoutNumbers({ free, total, ...rest }) {
  return rest;
}

function section(name, items, className) {
  const heading = el("h3", {}, text(`section.${name}`), " ", el("span", { class: "muted" }, items.length));
  const body = items.length ? el("ul", { class: className }, ...items) : el("p", { class: "muted" }, text("nothing"));
  return el("section", { class: name }, heading, body);
}

function lines(name, data) {
  const drawn = data.map(line);
  drawn.forEach((each, i) => each.set(data[i]));
  return {
    element: section(name, drawn.map(({ element }) => element), "lines"),
    update: (newer) => drawn.forEach((each, i) => each.set(newer[i])),
  };
}

function line({ id, name, remark, until, ended, kind }) {
  const free = el("span", { class: "figure" });
  const share = bar();
  const end = until && text(ended ? "endedAt" : "endsAt", { time: until });
  const facts = [usageText(kind?.usage), typeText(kind), kind?.node?.name, end];
  const element = el("li", { class: ended ? "ended" : "" },
    el("div", { class: "line-head" }, el("span", { class: "name" }, name ?? remark ?? id), free),
    share.element,
    name && remark && el("p", { class: "muted" }, remark),
    el("p", { class: "muted" }, facts.filter(Boolean).join(" · ")),
    el("p", { class: "id" }, id));
  const set = (data) => {
    const words = text("of", { free: figure(data.free), total: figure(data.total) });
    if (free.textContent !== words) free.textContent = words;
    share.set(data.free, data.total);
  };
  return { element, set };
}

// The values look like bit flags, so sums of known ones are taken apart.
function usageText(usage) {
  if (usage === null || usage === undefined) return "";
  const names = [1, 2, 4].filter((flag) => usage & flag).map((flag) => text(`usage.${flag}`));
  return usage > 0 && usage < 8 ? names.join(" + ") : text("usage", { value: usage });
}

function typeText(kind) {
  return kind?.type === 1 || kind?.type === 2 ? text(`type.${kind.type}`) : kind?.type_str;
}

function hours({ id, name, remark, default: isDefault, open, week }) {
  const days = runsOfDays(week).map(([label, spans]) =>
    el("div", { class: "day" },
      el("span", { class: "day-name" }, label), dayStrip(spans), el("span", { class: "spans" }, spansText(spans))));
  return el("li", {},
    el("p", { class: "name" }, name ?? id, " ", mark(open ? "open" : "closed", open ? "good" : "")
      , " ", isDefault && mark("default")),
    remark && el("p", { class: "muted" }, remark),
    ...days);
}

function mark(key, level = "") {
  return el("span", { class: `mark ${level}` }, text(key));
}

// Days in a row with the same hours are shown as one.
function runsOfDays(week) {
  const names = dayNames();
  const runs = [];
  for (const day of MONDAY_FIRST) {
    const key = JSON.stringify(week[day]);
    if (runs.at(-1)?.key === key) runs.at(-1).days.push(day);
    else runs.push({ key, days: [day] });
  }
  return runs.map(({ days }) => {
    const [first, last] = [names[days[0]], names[days.at(-1)]];
    return [days.length > 1 ? `${first}–${last}` : first, week[days[0]]];
  });
}

function spansText(spans) {
  const open = spans.filter(([begin, end]) => end > begin);
  if (!open.length) return text("closed");
  return open.map((span) => span.map(timeOfDay).join("–")).join("  ");
}

function timeOfDay(minutes) {
  return [Math.floor(minutes / 60), minutes % 60].map((part) => String(part).padStart(2, "0")).join(":");
}

function script({ id, name, kind }) {
  return el("li", {}, el("span", {}, name ?? id), " ", el("span", { class: "muted" }, text(`kind.${kind}`), ` ${id}`));
}

function rule({ id, name, remark, default: isDefault, outcomes }) {
  const labels = outcomes.map(([status, label]) => outcomeText(status, label)).join(text("comma"));
  return el("li", {},
    el("p", { class: "name" }, name ?? id, " ", isDefault && mark("default")),
    remark && el("p", { class: "muted" }, remark),
    el("p", {}, labels ? text("redials", { outcomes: labels }) : text("nothing")));
}
