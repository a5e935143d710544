"""Contrast of a page in a browser, as WCAG 2.2 counts it: of all its texts, and of the borders of what can be used."""

from __future__ import annotations

from browser import Browser

POOR = """
(() => {
  const numbers = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = (colour) => {
    const [r, g, b] = numbers(colour).map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const opaque = (colour) => numbers(colour).length === 3 || numbers(colour)[3] === 1;
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (opaque(colour)) return colour;
      if (numbers(colour)[3] > 0) throw new Error(`half transparent: ${at.tagName} ${at.className}`);
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  for (const element of document.body.querySelectorAll("*")) {
    const style = getComputedStyle(element);
    if (!element.checkVisibility() || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(element.tagName)) continue;
    if (style.opacity !== "1") poor.push(`${element.tagName}.${element.className} opacity ${style.opacity}`);
    const words = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const held = ["INPUT", "SELECT", "TEXTAREA"].includes(element.tagName);
    if ((words || held) && ratio(style.color, behind(element)) < 4.5) {
      poor.push(`${element.tagName}.${element.className} text ${style.color} on ${behind(element)}`);
    }
    const outside = element.parentElement ? behind(element.parentElement) : style.backgroundColor;
    for (const side of ["Top", "Left", "Bottom", "Right"]) {
      if (style[`border${side}Style`] === "none" || !parseFloat(style[`border${side}Width`])) continue;
      if (element.matches("input:not([type=search])")) continue;  // drawn by the browser itself
      if (ratio(style[`border${side}Color`], outside) < 3) {
        poor.push(`${element.tagName}.${element.className} border ${style[`border${side}Color`]} on ${outside}`);
      }
    }
  }
  return [...new Set(poor)];
})()
"""
"""Texts below 4.5:1, borders below 3:1, and what is half transparent, for which neither could be told."""


def poor(browser: Browser) -> list[str]:
    """What falls short of level AA, in light and in dark."""
    found: list[str] = []
    try:
        for dark in (False, True):
            browser.dark(dark)
            browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
            found += [f"{'dark' if dark else 'light'}: {each}" for each in browser.run(POOR)]
    finally:
        browser.dark(False)
    return found
