// Keyboard for the lists and the waterfall. Every page works without it.
"use strict";
const typing = (target) => target.closest("input, select, textarea") !== null;
const items = () => [...document.querySelectorAll("[data-item]")].filter((item) => item.offsetParent !== null);

function move(step) {
  const all = items();
  const at = all.indexOf(document.activeElement);
  const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + step, 0), all.length - 1)];
  if (next) {
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  }
}

function unfold() {
  const all = [...document.querySelectorAll("main details")];
  const open = !all.every((each) => each.open);
  for (const each of all) each.open = open;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "e") unfold();
  else if (event.key === "u") document.querySelector("[data-up]")?.click();
  else if (event.key === "/") {
    const search = document.querySelector("[data-search]");
    if (!search) return;
    event.preventDefault();
    search.focus();
    search.select();
  }
});

// A choice made with the pointer applies at once; with the arrow keys every step would.
for (const select of document.querySelectorAll(".filters select")) {
  let pointed = false;
  select.addEventListener("pointerdown", () => { pointed = true; });
  select.addEventListener("keydown", () => { pointed = false; });
  select.addEventListener("change", () => { if (pointed) select.form.requestSubmit(); });
}

// An address that is passed on holds only what was chosen.
document.querySelector(".filters")?.addEventListener("formdata", (event) => {
  for (const [name, value] of [...event.formData]) if (!value) event.formData.delete(name);
});

// "Back to the list" means the list as it was filtered.
const up = document.querySelector("a[data-up]");
if (document.querySelector(".filters")) sessionStorage.setItem("list", location.pathname + location.search);
else if (up?.pathname === "/traces") up.href = sessionStorage.getItem("list") ?? up.href;
document.querySelector(".span[open]")?.scrollIntoView({ block: "center" });
