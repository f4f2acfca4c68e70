// Light or dark, as the reader chose on any page of the site. In the head, so that a page does not flash.
"use strict";
(() => {
  const THEMES = ["auto", "light", "dark"];
  let theme = "auto";
  const kept = { // pages of files may have no storage
    get: () => { try { return localStorage.getItem("sharpbench-theme"); } catch { return null; } },
    set: (name) => { try { localStorage.setItem("sharpbench-theme", name); } catch { /* it holds for this page only */ } },
  };

  function dress(name) {
    theme = THEMES.includes(name) ? name : "auto";
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }

  dress(kept.get());
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    button.textContent = `Theme: ${theme}`;
    button.addEventListener("click", () => {
      dress(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
      button.textContent = `Theme: ${theme}`;
      kept.set(theme);
    });
  });
})();
