// What pages do beyond what they do without JavaScript: they ask before they change something, stay up to date only
// while somebody looks, and say when they do not.
"use strict";

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

// Filters that are left empty need not be in the address.
document.addEventListener("formdata", (event) => {
  if (!event.target.matches(".filters")) return;
  const fields = [...event.formData].filter(([name, value]) => value !== "");
  for (const name of [...event.formData.keys()]) event.formData.delete(name);
  for (const [name, value] of fields) event.formData.append(name, value);
});

// Nobody looks: do not ask. When somebody looks again, ask at once.
document.addEventListener("htmx:before:request", (event) => {
  if (document.hidden) event.preventDefault();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  for (const part of document.querySelectorAll("[data-hx-get]")) part.dispatchEvent(new Event("refresh"));
});

// Whether what is shown is what is.
const tell = (text) => {
  const line = document.getElementById("connection");
  if (line.textContent !== text) line.textContent = text;
};
document.addEventListener("htmx:after:swap", () => tell(""));
for (const failure of ["htmx:error", "htmx:response:error"]) {
  document.addEventListener(failure, () => tell("Not up to date: the console does not answer."));
}

// Whoever has ticked boxes, or has scrolled, keeps the rows that are there; what is newer is told of above them.
document.addEventListener("htmx:config:request", (event) => {
  const rows = event.target.querySelector("[data-hold]");
  if (rows && (rows.querySelector("tbody input:checked") || window.scrollY > 200)) {
    event.detail.ctx.request.headers["Console-Hold"] = rows.dataset.hold;
  }
});

// Ticking boxes: all at once, and how many there are.
const boxes = () => [...document.querySelectorAll('tbody .pick input')];
const count = () => {
  const all = document.getElementById("pick-all");
  const form = document.getElementById("bulk");
  if (!form) return;
  const picked = boxes().filter((box) => box.checked).length;
  if (all) {
    all.hidden = false;
    all.checked = picked > 0 && picked === boxes().length;
    all.indeterminate = picked > 0 && !all.checked;
  }
  const takesAll = document.getElementById("all").checked;
  document.getElementById("picked").textContent = takesAll ? "" : picked ? `${picked} selected` : "None selected";
  for (const button of form.querySelectorAll("button")) button.disabled = !picked && !takesAll;
};
document.addEventListener("change", (event) => {
  if (event.target.id === "pick-all") for (const box of boxes()) box.checked = event.target.checked;
  count();
});
document.addEventListener("htmx:after:swap", count);
window.addEventListener("pageshow", count);
