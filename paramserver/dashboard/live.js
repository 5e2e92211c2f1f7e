// Puts the panels of the server-sent events in place; the page is whole without it.
"use strict";
const panels = document.getElementById("panels");
const state = document.getElementById("live");
const source = new EventSource("events" + location.search);
source.onmessage = (message) => {
  state.textContent = "live";
  state.className = "badge ok";
  for (const [name, html] of Object.entries(JSON.parse(message.data))) {
    let panel = document.getElementById("panel-" + name);
    if (panel === null) {
      panel = document.createElement("div");
      panel.id = "panel-" + name;
      panels.append(panel);
    }
    const at = [...panel.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
    panel.innerHTML = html;
    panel.querySelectorAll(".scroll").forEach((each, i) => { each.scrollLeft = at[i] || 0; });
  }
};
source.onerror = () => {
  state.textContent = "not connected";
  state.className = "badge odd";
};
