// The accounts as cards: which of them are shown, in which order, and what has changed.

import { Card } from "./card.js";

export class AccountList {
  #element;
  #summarize;
  #cards = [];
  #matching = null;
  #sort = "free";
  #isLost = false;

  // `summarize` is called with the sums over all accounts whenever they may have changed.
  constructor(element, summarize) {
    this.#element = element;
    this.#summarize = summarize;
    element.addEventListener("keydown", (event) => this.#moveFocus(event));
  }

  reset({ rows, now, ages }) {
    const isSame =
      rows.length === this.#cards.length && rows.every(({ id }, i) => this.#cards[i].id === id);
    if (isSame) rows.forEach((row, i) => this.#cards[i].update(row));
    else {
      this.#cards = rows.map((row, i) => new Card(row, i));
      this.#element.replaceChildren();
    }
    this.tick({ now, ages });
    this.#arrange();
  }

  // Tells whether lines have other names now, so that a filter may find others.
  patch(patches) {
    let isRenamed = false;
    for (const { i, ...changes } of patches) {
      this.#cards[i].update(changes);
      isRenamed ||= "names" in changes;
    }
    this.#arrange();
    return isRenamed;
  }

  tick({ now, ages }) {
    ages.forEach((age, i) => this.#cards[i].setTime(age === null ? null : now - age));
  }

  addPoints(points) {
    points.forEach((point, i) => this.#cards[i].addPoint(point));
  }

  lost() {
    this.#setLost(true);
  }

  found() {
    this.#setLost(false);
  }

  #setLost(isLost) {
    if (this.#isLost === isLost) return;
    this.#isLost = isLost;
    for (const card of this.#cards) card.setLost(isLost);
    this.#arrange();
  }

  redraw() {
    for (const card of this.#cards) card.redraw();
    this.#sum();
  }

  // `numbers` are those of the accounts to show, or null for all.
  match(numbers) {
    this.#matching = numbers && new Set(numbers);
    this.#arrange();
  }

  sort(by) {
    this.#sort = by;
    this.#arrange();
  }

  #shown() {
    const shown = this.#cards.filter((card) => this.#matching?.has(card.number) ?? true);
    return shown.sort(this.#sort === "name" ? byName : byNeed);
  }

  #arrange() {
    const wanted = this.#shown().map((card) => card.element);
    const kept = new Set(wanted);
    for (const element of [...this.#element.children]) if (!kept.has(element)) element.remove();
    place(this.#element, wanted);
    this.#sum();
  }

  #sum() {
    const sums = { free: 0, total: 0, stale: 0, failing: 0, all: this.#cards.length };
    for (const card of this.#cards) {
      sums.free += card.row.free ?? 0;
      sums.total += card.row.total ?? 0;
      if (card.state in sums) sums[card.state] += 1;
    }
    this.#summarize({ ...sums, shown: this.#element.childElementCount });
  }

  #moveFocus(event) {
    const card = event.target.closest("[data-account]");
    const to = {
      ArrowDown: card?.nextElementSibling,
      ArrowUp: card?.previousElementSibling,
      Home: this.#element.firstElementChild,
      End: this.#element.lastElementChild,
    }[event.key];
    if (!to || !event.target.matches("button")) return;
    event.preventDefault();
    to.querySelector("button").focus();
  }
}

function byName(one, other) {
  return one.id < other.id ? -1 : one.id > other.id ? 1 : 0;
}

// Failing first, then what has least free, then what is not known yet; ties as they were given.
function byNeed(one, other) {
  const failing = (other.state === "failing") - (one.state === "failing");
  return failing || free(one) - free(other) || one.number - other.number;
}

function free(card) {
  return card.row.free ?? Number.MAX_SAFE_INTEGER;
}

// Puts the elements in that order. Whatever is moved loses the focus, so the one that has it stays where it is and
// the others move round it.
function place(parent, wanted) {
  const pinned = wanted.find((element) => element.contains(document.activeElement));
  let at = parent.firstElementChild;
  for (const element of wanted) {
    if (element === pinned) {
      while (at !== pinned) at = movedToEnd(parent, at);
    }
    if (element === at) at = at.nextElementSibling;
    else parent.insertBefore(element, at);
  }
}

function movedToEnd(parent, element) {
  const next = element.nextElementSibling;
  parent.append(element);
  return next;
}
