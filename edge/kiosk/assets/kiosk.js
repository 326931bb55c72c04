// Keeps the screen at the wall quick: looks again without a reload, counts down between two looks, and goes home when nobody touches
// it. Every page works without this, by links, forms and a refresh.
"use strict";
(() => {
  const spoken = document.querySelector("[data-say]");
  const lost = document.querySelector("[data-lost]");
  let main = document.querySelector("main");
  let touched = performance.now(), looked = touched, counted = touched, deaf = 0, busy = false;

  const ms = (name) => Number(main.dataset[name] || 0);
  const say = () => {
    const words = [main.querySelector("h1"), main.querySelector(".heard") || main.querySelector(".number")].filter((e) => e).map((e) => e.innerText.trim()).join(". ");
    if (spoken.textContent !== words) spoken.textContent = words;
  };
  // What only counts is no change.
  const bare = (e) => {
    const copy = e.cloneNode(true);
    for (const c of copy.querySelectorAll("[data-count]")) c.remove();
    for (const c of copy.querySelectorAll("[data-left]")) c.removeAttribute("data-left");
    return copy.dataset.state + copy.innerHTML;
  };

  const show = (text) => {
    const page = new DOMParser().parseFromString(text, "text/html");
    const fresh = page.querySelector("main");
    if (!fresh) throw new Error("not a page of ours");
    counted = performance.now();
    const left = fresh.querySelector("[data-left]"), old = main.querySelector("[data-left]");
    if (left && old) old.dataset.left = left.dataset.left;
    if (bare(fresh) === bare(main)) return;
    const key = document.activeElement?.dataset?.key, inside = main.contains(document.activeElement);
    if (fresh.dataset.state !== main.dataset.state) touched = counted;
    const next = document.importNode(fresh, true);
    main.replaceWith(next);
    main = next;
    document.title = page.title;
    if (key) main.querySelector(`[data-key="${CSS.escape(key)}"]:not(:disabled)`)?.focus();
    else if (inside) main.focus({ preventScroll: true });
    say();
  };

  const fetchPage = async (where) => {
    const answer = await fetch(where, { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(answer.status);
    if (answer.redirected) { location.replace(answer.url); return; }
    show(await answer.text());
    return answer.url;
  };

  const look = async () => {
    busy = true;
    try {
      await fetchPage(location.href);
      deaf = 0;
    } catch {
      deaf += 1; // the edge starts again, perhaps with another token: the next page that comes is its
    }
    lost.hidden = deaf < 2;
    looked = performance.now();
    busy = false;
  };

  setInterval(() => {
    const now = performance.now();
    const idle = ms("idle"), again = ms("again");
    if (idle && now - touched > idle) { touched = now; location.replace(main.dataset.home); return; }
    const ring = main.querySelector("[data-left]");
    if (ring) {
      const left = Math.max(0, Number(ring.dataset.left) - (now - counted));
      ring.querySelector("b").textContent = Math.ceil(left / 1000);
      ring.querySelector(".remains").setAttribute("stroke-dasharray", `${(100 * left) / Number(ring.dataset.total)} 100`);
    }
    if (again && !busy && now - looked > again) look();
  }, 100);

  for (const kind of ["pointerdown", "keydown", "wheel", "touchmove"]) addEventListener(kind, () => { touched = performance.now(); }, { passive: true });

  // + and - without a reload: each press waits for the one before, so that quick fingers lose none.
  let presses = Promise.resolve();
  document.addEventListener("submit", (e) => {
    if (!("amount" in e.target.dataset)) return;
    const key = e.submitter?.dataset.key;
    if (!key) return;
    e.preventDefault();
    presses = presses.then(async () => {
      const button = main.querySelector(`[data-key="${CSS.escape(key)}"]:not(:disabled)`);
      // A field is named "action" too, so the form's property of that name is not its address.
      if (!button) return;
      const where = `${button.form.getAttribute("action")}?${new URLSearchParams(new FormData(button.form, button))}`;
      try {
        await fetchPage(where);
        history.replaceState(null, "", where);
      } catch {
        lost.hidden = false;
      }
    });
  });
  addEventListener("pageshow", (e) => { if (e.persisted) location.reload(); });
  setTimeout(say, 100); // a live region speaks only about what changes after it is there
})();
