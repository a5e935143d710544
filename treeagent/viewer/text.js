// Text: whatever a model said is shown as text and as nothing else.

const $ = (id) => document.getElementById(id);

/** Control, bidirectional and other unseen characters by their code points: they must not steer what is shown. */
const UNSEEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const visible = (text) =>
  String(text).replace(UNSEEN, (char) => `\u27e8${char.charCodeAt(0).toString(16).padStart(4, "0")}\u27e9`);

const onOneLine = (text, most) => {
  const line = visible(String(text).replace(/\s+/g, " ").trim());
  return line.length > most ? line.slice(0, most - 1) + "\u2026" : line;
};

/** An element; children are elements or texts, and texts become text nodes. */
function el(tag, how, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(how || {})) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) made.append(child instanceof Node ? child : visible(child));
  }
  return made;
}

const unknown = "unknown";
const number = (value, digits = 4) =>
  value === null || value === undefined ? unknown
  : typeof value === "number" && !Number.isInteger(value) && Math.abs(value) < 1000 ? String(Number(value.toPrecision(digits)))
  : typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(digits)).toLocaleString("en")
  : typeof value === "number" ? value.toLocaleString("en") : String(value);
const seconds = (value) => (value === null || value === undefined ? unknown : `${number(value)} s`);
const plural = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many || one + "s"}`;
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
