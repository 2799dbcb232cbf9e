// Renews what the page shows, without disturbing whoever is reading or typing. The page works
// without this script: it then renews itself as a whole, less often.
"use strict";

const EVERY_MS = 5000;
const TIMEOUT_MS = 10000;

let last = null;

// A form that somebody has begun to fill in must not be taken away.
function isInUse(main) {
  const active = document.activeElement;
  if (active && main.contains(active) && active.matches("input, select, textarea")) return true;
  const selection = document.getSelection();
  if (selection && !selection.isCollapsed && main.contains(selection.anchorNode)) return true;
  return [...main.querySelectorAll("input[type=text], input[type=search], textarea")].some(
    (field) => field.value !== field.defaultValue,
  );
}

// Where the keyboard is, as a path that leads to the same place in the renewed page.
function placeOf(element, main) {
  const path = [];
  for (let node = element; node !== main; node = node.parentElement) {
    path.unshift([...node.parentElement.children].indexOf(node));
  }
  return path;
}

function at(path, main) {
  return path.reduce((node, index) => (node ? node.children[index] : null), main);
}

function swap(main, fresh) {
  const opened = [...main.querySelectorAll("details")].map((element) => element.open);
  const active = document.activeElement;
  const place = active && active !== main && main.contains(active) ? placeOf(active, main) : null;
  main.replaceChildren(...fresh.childNodes);
  const details = [...main.querySelectorAll("details")];
  if (details.length === opened.length) {
    details.forEach((element, index) => { element.open = opened[index]; });
  }
  const again = place && at(place, main);
  if (again && again.tagName === active.tagName) again.focus({ preventScroll: true });
}

async function renew() {
  const main = document.querySelector("main");
  if (document.hidden || isInUse(main)) return;
  const answer = await fetch(location.href, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (answer.redirected) {
    location.reload();
    return;
  }
  if (answer.status !== 200) return;
  const text = await answer.text();
  const fresh = new DOMParser().parseFromString(text, "text/html").querySelector("main");
  if (!fresh || fresh.innerHTML === last || isInUse(main)) return;
  last = fresh.innerHTML;
  swap(main, fresh);
}

setInterval(() => renew().catch(() => {}), EVERY_MS);
