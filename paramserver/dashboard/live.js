// Puts the panels of the server-sent events in place; the page is whole without it.
"use strict";
const panels = document.getElementById("panels");
const state = document.getElementById("live");
const source = new EventSource("events" + location.search);
const SCROLLED = ".scroll, .short, .trace, figure";
const late = new Map(); // what is new, by panel: it waits while somebody marks words to copy them
function panelOf(name) {
  let panel = document.getElementById("panel-" + name);
  if (panel === null) {
    panel = document.createElement("div");
    panel.id = "panel-" + name;
  }
  return panel;
}
function fill(panel, html) {
  const at = [...panel.querySelectorAll(SCROLLED)].map((each) => [each.scrollLeft, each.scrollTop]);
  panel.innerHTML = html;
  panel.querySelectorAll(SCROLLED).forEach((each, i) => {
    [each.scrollLeft, each.scrollTop] = at[i] || [0, 0];
  });
}
function isMarked(panel) {
  const marked = getSelection();
  return !marked.isCollapsed && panel.contains(marked.anchorNode);
}
source.onmessage = (message) => {
  const { order, changed } = JSON.parse(message.data);
  state.textContent = "live";
  state.className = "badge ok";
  order.forEach((name, i) => {
    const panel = panelOf(name);
    if (panels.children[i] !== panel) panels.insertBefore(panel, panels.children[i] || null);
    if (name in changed) late.set(name, changed[name]);
    if (late.has(name) && !isMarked(panel)) {
      fill(panel, late.get(name));
      late.delete(name);
    }
  });
  while (panels.children.length > order.length) panels.lastElementChild.remove();
};
source.onerror = () => {
  state.textContent = "not connected";
  state.className = "badge odd";
};
