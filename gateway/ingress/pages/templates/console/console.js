// Follows the live part of a page; without this script a page shows how things were when it was opened.
const part = document.querySelector("[data-live]");
if (part) {
  const source = new EventSource(new URL(part.dataset.live, location.origin));
  source.onmessage = (event) => { part.innerHTML = event.data; };
}
