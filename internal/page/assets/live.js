// Keeps a page fresh: listens to the event stream named in body[data-live] and, when something changed, fetches this very page and
// swaps the fragments that differ. The server renders every page once, for readers with and without script.
"use strict";
(() => {
  const stream = document.body.dataset.live;
  const pulse = document.querySelector("[data-pulse]");
  const text = document.querySelector("[data-pulse-text]");
  const leastMS = 700; // between two fetches
  let busy = false, again = false;

  const say = (state, words) => {
    if (!pulse) return;
    pulse.hidden = false;
    pulse.dataset.state = state;
    if (text.textContent !== words) text.textContent = words;
  };

  const swap = (fresh) => {
    for (const old of document.querySelectorAll("[data-fragment]")) {
      const name = old.dataset.fragment;
      const now = fresh.querySelector(`[data-fragment="${CSS.escape(name)}"]`);
      if (!now) continue;
      const details = [...old.querySelectorAll("details")];
      [...now.querySelectorAll("details")].forEach((d, i) => { d.open = details[i] ? details[i].open : d.open; }); // what a reader opened stays open
      if (now.innerHTML === old.innerHTML) continue;
      const held = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      const folded = details.findIndex((d) => d.firstElementChild === document.activeElement);
      const named = old.contains(document.activeElement) ? document.activeElement.id : "";
      const known = new Set([...old.querySelectorAll("[data-key]")].map((e) => e.dataset.key));
      const next = document.importNode(now, true);
      for (const e of next.querySelectorAll("[data-key]")) if (!known.has(e.dataset.key)) e.classList.add("new");
      old.replaceWith(next);
      if (folded >= 0) next.querySelectorAll("details")[folded]?.firstElementChild?.focus();
      if (held) next.querySelector(`a[href="${CSS.escape(held)}"]`)?.focus();
      if (named) next.querySelector(`#${CSS.escape(named)}`)?.focus();
    }
  };

  const refresh = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
      if (answer.ok) swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      // The stream reports the outage; the next event tries again.
    }
    setTimeout(() => { busy = false; if (again) { again = false; refresh(); } }, leastMS);
  };

  const source = new EventSource(stream);
  let broken = false;
  source.onopen = () => { say("up", "Live"); if (broken) refresh(); broken = false; };
  source.onerror = () => { say("down", "Reconnecting"); broken = true; };
  source.addEventListener("change", refresh);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  setInterval(refresh, 60000); // "5 min ago" grows old by itself
})();
