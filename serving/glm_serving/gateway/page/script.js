// The page is complete without this: it only asks for itself again and takes over what changed.
const EVERY = 1000;
let last = new Date();

async function renew() {
  const answer = await fetch(location.href, { cache: "no-store" });
  if (!answer.ok) throw new Error(answer.statusText);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.title = fresh.title;
  for (const name of ["header", "main"]) {
    document.querySelector(name).replaceWith(fresh.querySelector(name));
  }
  last = new Date();
}

async function look() {
  // What a person marks to copy it must not vanish under the mouse.
  if (getSelection().isCollapsed && !document.hidden) {
    try {
      await renew();
      document.body.classList.remove("lost");
    } catch {
      document.getElementById("lost").textContent =
        `The gateway has not answered since ${last.toLocaleTimeString()}. This is what it said then.`;
      document.body.classList.add("lost");
    }
  }
  setTimeout(look, EVERY);
}

setTimeout(look, EVERY);
