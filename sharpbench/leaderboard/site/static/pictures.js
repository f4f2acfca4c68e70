// Each picture as a file: SVG as it is drawn, PNG at three times its size, in the colours of the page.
"use strict";
addEventListener("DOMContentLoaded", () => {
  const SCALE = 3;
  const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "stroke-linejoin", "paint-order", "text-anchor", "font-family", "font-size", "font-style"];

  function standalone(svg) { // with its styles as attributes, and a ground
    const copy = svg.cloneNode(true), box = svg.viewBox.baseVal, copied = copy.querySelectorAll("*");
    svg.querySelectorAll("*").forEach((element, index) => {
      const style = getComputedStyle(element);
      if (element.tagName !== "title") for (const name of STYLES) copied[index].setAttribute(name, style.getPropertyValue(name));
    });
    const ground = document.createElementNS(svg.namespaceURI, "rect");
    for (const [name, value] of Object.entries({ x: box.x, y: box.y, width: box.width, height: box.height, fill: getComputedStyle(svg).getPropertyValue("background-color") })) ground.setAttribute(name, value);
    copy.prepend(ground);
    copy.setAttribute("width", box.width);
    copy.setAttribute("height", box.height);
    return { text: new XMLSerializer().serializeToString(copy), width: box.width, height: box.height };
  }

  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function savePng({ text, width, height }, name) {
    const image = new Image();
    image.addEventListener("load", () => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [SCALE * width, SCALE * height];
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => save(blob, name), "image/png");
    });
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  }

  for (const svg of document.querySelectorAll("svg.picture, #canvas")) {
    const caption = svg.closest("figure")?.querySelector("figcaption") ?? document.getElementById("plot-files");
    const name = svg.id || svg.getAttribute("aria-labelledby");
    const offer = (title, action) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = title;
      button.setAttribute("aria-label", `${title} of this picture`);
      button.addEventListener("click", action);
      caption.append(" ", button);
    };
    offer("SVG", () => save(new Blob([standalone(svg).text], { type: "image/svg+xml" }), `${name}.svg`));
    offer("PNG", () => savePng(standalone(svg), `${name}.png`));
  }
});
