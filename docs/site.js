// Tables that scroll sideways can be reached and scrolled by keyboard. The theme wraps them after it has started.
"use strict";
(() => {
  function reach() {
    for (const each of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) each.tabIndex = 0;
  }
  new MutationObserver(reach).observe(document.body, { childList: true, subtree: true });
  reach();
})();
