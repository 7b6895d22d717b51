"use strict";
// Takes over the parts of the page that have changed, every few seconds. While there is no answer the last page stays,
// and says since when; so a person is not left with the browser's own error page.
const EVERY_MS = 3000, PATIENCE_MS = 5000;
const lost = document.getElementById("lost");
let since = null;

async function look() {
  try {
    const answer = await fetch(location.href, {cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS)});
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(part.id);
      if (!other || part.outerHTML === other.outerHTML) continue;
      part.className = other.className;
      part.replaceChildren(...other.childNodes);
    }
    document.title = fresh.title;
    document.getElementById("icon").href = fresh.getElementById("icon").href;
    since = null;
    lost.hidden = true;
  } catch {
    since ??= new Date();
    lost.textContent = `Mayday has not answered since ${since.toLocaleTimeString()}. What you see is from before.`;
    lost.hidden = false;
  }
  setTimeout(look, EVERY_MS);
}
setTimeout(look, EVERY_MS);
