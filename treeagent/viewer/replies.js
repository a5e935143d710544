// A request with its reply, word for word.

/** The prompt, folded away unless it is short, and each sample as it came. */
function exchange(run, place, node, open) {
  const reply = repliesOf(run)[place];
  const [role, t, took, thought] = run.requests[place];
  const usage = reply.usage || {};
  const where = thought === null || thought === undefined ? "asked at an unknown thought"
    : thought === 0 ? "asked at the input" : `asked at thought ${thought}`;
  const when = t === null ? "answered to an earlier process of this run" : `answered at ${seconds(t)}`;
  const early = run.earlyOf.get(place);
  const sent = early && early.asked !== null ? `, sent ${seconds(early.asked - early.from)} before the search asked for it` : "";
  const bill = `${number(usage.prompt_tokens)} prompt + ${number(usage.completion_tokens)} completion tokens`;
  const parts = [
    el("p", { class: "more" }, `${role || (reply.type === "scores" ? "likelihoods" : "request")}: ${where}, ${when}, took ${seconds(took)}${sent}, ${bill}`),
    folding("Prompt", open, () => el("pre", { dir: "auto" }, run.unfold(reply.prompt))),
  ];
  if (reply.type === "scores") {
    parts.push(el("h4", {}, "Log-likelihoods"), rows(reply.scores.map(([text, logprob, length]) => [
      text === null ? "continuation" : JSON.stringify(text), `${number(logprob)} (${plural(length, "token")})`,
    ])));
    return [el("section", { class: "exchange" }, parts)];
  }
  reply.samples.forEach((sample, i) => {
    const isOwn = node && node.request === reply.id && node.sample === i;
    if (reply.samples.length > 1 && node && node.request === reply.id && !isOwn) return;
    const which = reply.samples.length > 1 ? `Raw reply, sample ${i + 1} of ${reply.samples.length}` : "Raw reply";
    if (sample.reasoning) {
      const thought = run.unfold(sample.reasoning);
      parts.push(folding(`Reasoning, ${plural(thought.length, "character")}`, false, () => el("pre", { dir: "auto" }, thought)));
    }
    parts.push(el("h4", {}, sample.finish === "length" ? `${which} (cut off at its token limit)` : which));
    parts.push(el("pre", { dir: "auto", class: "reply" }, marked(run, sample, isOwn ? node.text : null)));
    parts.push(el("p", { class: "more" }, draftedWords(sample)));
    if (sample.logprob !== null) parts.push(el("p", { class: "more" }, `log-probability ${number(sample.logprob)}`));
    if (sample.tokens && sample.tokens.length) parts.push(folding("Token ids", false, () => tokens(sample)));
  });
  return [el("section", { class: "exchange" }, parts)];
}

function draftedWords(sample) {
  const count = sample.tokens === null ? null : sample.tokens.length;
  const said = count === null ? "tokens unknown" : plural(count, "token");
  if (sample.drafted === null || sample.drafted === undefined) return `${said}; whether any was drafted is unknown`;
  const guessed = sample.drafted.length;
  return [`${said}, ${guessed.toLocaleString("en")} of them `, el("span", { class: guessed ? "drafted" : "" }, "accepted draft tokens")];
}

/** The text of the reply, with accepted draft tokens and the piece of this thought marked. */
function marked(run, sample, own) {
  const pieces = sample.pieces.map(([folded, drafted]) => [run.unfold(folded), drafted === 1]);
  const whole = pieces.map(([text]) => text).join("");
  const from = own ? whole.indexOf(own) : -1;
  const cuts = from < 0 ? [] : [from, from + own.length];
  const parts = [], frame = el("span", { class: "this" });
  let at = 0;
  for (const [text, drafted] of pieces) {
    const edges = [at, ...cuts.filter((cut) => cut > at && cut < at + text.length), at + text.length];
    for (let i = 0; i + 1 < edges.length; i++) {
      const inside = from >= 0 && edges[i] >= from && edges[i + 1] <= from + own.length;
      const shown = visible(text.slice(edges[i] - at, edges[i + 1] - at));
      const part = drafted ? el("span", { class: "drafted" }, shown) : shown;
      if (!inside) parts.push(part);
      else {
        if (!frame.hasChildNodes()) parts.push(frame);
        frame.append(part);
      }
    }
    at += text.length;
  }
  return parts.length ? parts : ["(nothing)"];
}

function tokens(sample) {
  const drafted = new Set(sample.drafted || []);
  const each = sample.tokens.flatMap((id, i) => [drafted.has(i) ? el("span", { class: "drafted" }, String(id)) : String(id), " "]);
  return el("pre", {}, each);
}

function rows(pairs) {
  return el("table", {}, pairs.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value))));
}

/** A folded section whose content is created when it is first opened. */
function folding(name, open, make) {
  const details = el("details", {}, el("summary", {}, name));
  const fill = () => { if (details.open && details.childElementCount === 1) details.append(make()); };
  details.addEventListener("toggle", fill);
  details.open = open;
  fill();
  return details;
}
