(() => {
const root = document.documentElement, all = (query) => [...document.querySelectorAll(query)];
root.classList.add("script");
try { root.dataset.theme = localStorage.getItem("seg-theme") || ""; } catch { /* a browser may forbid it */ }
const isDark = () => root.dataset.theme ? root.dataset.theme === "dark"
  : matchMedia("(prefers-color-scheme: dark)").matches;
document.addEventListener("DOMContentLoaded", () => {
  const toggle = document.querySelector("[data-theme-toggle]");
  const name = () => { toggle.textContent = isDark() ? "Light" : "Dark"; };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("seg-theme", root.dataset.theme); } catch { /* as above */ }
    name();
  });
  name();
  for (const bar of all("[data-filter]")) {
    const key = bar.dataset.filter, links = [...bar.querySelectorAll("a")], parts = all(`[data-${key}]`);
    const show = (value) => {
      for (const link of links) link.setAttribute("aria-pressed", String(link.dataset.value === value));
      for (const part of parts) part.hidden = value !== "" && part.dataset[key] !== value;
    };
    for (const link of links) {
      link.setAttribute("role", "button");
      const choose = (event) => {
        event.preventDefault();
        show(link.getAttribute("aria-pressed") === "true" ? "" : link.dataset.value);
      };
      link.addEventListener("click", choose);
      link.addEventListener("keydown", (event) => { if (event.key === " ") choose(event); });
    }
    show("");
  }
  for (const button of all("[data-copy]")) button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
});
})();
