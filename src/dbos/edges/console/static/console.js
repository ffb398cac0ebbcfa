// What pages do beyond what they do without JavaScript: they ask before they change something, stay up to date only
// while somebody looks, and say when they do not.
"use strict";

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
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
