"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const MOST_LANES = 8;
  const LANE = 24, CHIP = 20, MARGIN = 26;
  const $ = (id) => document.getElementById(id);
  const state = { method: 0, search: 0, frame: 0, frames: [], timer: null };

  // ---------------------------------------------------------------------------------------------- elements and texts

  function make(tag, attributes = {}, ...children) {
    return fill(document.createElement(tag), attributes, children);
  }
  function draw(tag, attributes = {}, ...children) {
    return fill(document.createElementNS(SVG, tag), attributes, children);
  }
  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  }
  const nats = (value, digits = 2) =>
    value === null || value === undefined ? "−∞" : value.toFixed(digits).replace("-", "−").replace(/^−(0\.?0*)$/, "$1");
  const word = (number) => data.words[number];
  const text = (numbers) => numbers.map((one) => (one === null || one === undefined ? "_" : word(one))).join(data.space);
  const quoted = (numbers, before = "", after = "") => make("q", {}, `${before}${text(numbers)}${after}`);
  const listed = (names) => names.join(", ").replace(/, ([^,]*)$/, " and $1");
  const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;
  const percent = (share) => (share >= 0.995 && share < 1 ? "> 99 %" : share < 0.01 ? "< 1 %" : `${Math.round(100 * share)} %`);
  const method = () => data.methods[state.method];
  const search = () => method().searches[state.search];

  // -------------------------------------------------------------------------------------------------------- the search

  const isSweep = (step) => step.kind === "sweep" || step.kind === "writing";
  const size = (one) => one.template.length || Math.max(0, ...one.steps.filter(isSweep).map((step) => step.choices.length));
  const place = (one, position) => (position < 0 ? size(one) + position : position);

  // The words that a candidate has read, at their places; the others are undefined.
  function read(one, step, choice, rank) {
    const words = new Array(size(one));
    const back = step.direction === "backward";
    const at = place(one, step.choices[choice][0]);
    one.template.forEach((known, position) => {
      if (typeof known === "number" && (back ? position >= at : position <= at)) words[position] = known;
    });
    for (let now = choice, row = rank; now >= 0 && row >= 0; now -= 1) {
      const candidate = step.choices[now][1][row];
      words[place(one, step.choices[now][0])] = candidate[0];
      row = candidate[1];
    }
    return words;
  }

  // The last sweep of a direction that has begun before a step.
  function latest(one, direction, before) {
    for (let at = before - 1; at >= 0; at -= 1) {
      const step = one.steps[at];
      if (isSweep(step) && step.direction === direction && !step.repeated) return step;
    }
    return null;
  }
  const other = (direction) => (direction === "forward" ? "backward" : "forward");

  // The choice of the opposite sweep that stops next to a place, on its far side.
  function farChoice(one, step, at) {
    const opposite = latest(one, other(step.direction), one.steps.indexOf(step));
    if (!opposite) return null;
    const back = step.direction === "backward";
    let best = -1;
    opposite.choices.forEach(([position], number) => {
      if (back ? place(one, position) < at : place(one, position) > at) best = number;
    });
    return best < 0 ? null : { step: opposite, choice: best };
  }

  // The whole sentence of a candidate: what it has read and the far side that it looks at.
  function sentence(one, step, choice, rank) {
    const words = read(one, step, choice, rank);
    const candidate = step.choices[choice][1][rank];
    const at = place(one, step.choices[choice][0]);
    if (step.looks && candidate.length > 7) {
      one.template.forEach((known, position) => {
        if (typeof known === "number" && words[position] === undefined) words[position] = known;
      });
      const far = farChoice(one, step, at);
      if (far && candidate[7] >= 0) {
        read(one, far.step, far.choice, candidate[7]).forEach((own, position) => {
          if (words[position] === undefined) words[position] = own;
        });
      }
    }
    return words;
  }

  const kept = (choice) => choice[1].filter((candidate) => candidate[2]).length;
  const isBlank = (one, at) => typeof one.template[at] !== "number";

  function framesOf(own, one) {
    const frames = [{ kind: "intro", chapter: "question" }];
    if (one) {
      one.steps.forEach((step, number) => {
        const chapter = chapterOf(one, step);
        if (isSweep(step)) {
          step.choices.forEach((choice, at) => frames.push({ kind: "choice", step: number, choice: at, chapter }));
          frames.push({ kind: "end", step: number, choice: step.choices.length - 1, chapter });
        } else if (step.kind !== "splices" || step.count) frames.push({ kind: step.kind, step: number, chapter });
      });
    }
    own.bounds.forEach((bound, at) => frames.push({ kind: "bound", at, chapter: "proof" }));
    frames.push({ kind: "answer", chapter: "answer", ...origin(own, one) });
    return frames;
  }

  // The step that found the answer first, and the rank of the answer there; null if the search on the page did not.
  function origin(own, one) {
    const best = own.hypotheses[0]?.words;
    if (!one || !best || best.length !== one.template.length) return { origin: null, rank: 0 };
    const is = (words) => best.every((each, at) => (isBlank(one, at) ? words[at] : one.template[at]) === each);
    for (const [number, step] of one.steps.entries()) {
      if (step.kind === "splices") {
        const rank = step.splices.findIndex((splice) => splice[3] !== null && is(splice[0]));
        if (rank >= 0) return { origin: { kind: "splices", step: number }, rank };
      } else {
        const choice = isSweep(step) ? step.choices.length - 1 : -1;
        const rank = ends(one, step).findIndex((words) => words && is(words));
        // The beams of the other direction are shown, too, if they come later.
        const after = one.steps.findIndex((later, at) => at > number && later.kind === "sweep" && later.direction === step.direction && !later.repeated);
        if (rank >= 0) return { origin: { kind: "end", step: number, choice, until: (after < 0 ? one.steps.length : after) - 1 }, rank };
      }
    }
    return { origin: null, rank: 0 };
  }

  // The whole sentences at the end of a sweep, by rank; null for those that it dropped.
  function ends(one, step) {
    if (step.kind !== "sweep" || !step.choices.length || step.choices.length !== blanksOf(one)) return [];
    const choice = step.choices.length - 1;
    return step.choices[choice][1].map((row, rank) => (row[2] ? whole(one, read(one, step, choice, rank)) : null));
  }
  const whole = (one, words) => [...words].map((own, at) => (isBlank(one, at) ? own : one.template[at]));

  // J of each sentence that is known, by its words: to any method (a Bi-RNN has its own), and to each method.
  const key = (words, own = method()) => `${own.name.startsWith("birnn-")} ${words}`, scores = new Map(), scoresOf = new Map();
  for (const own of data.methods) {
    const found = new Map(own.hypotheses.filter((one) => one.joint !== null).map((one) => [key(one.words, own), one.joint]));
    for (const { steps } of own.searches) for (const { splices } of steps) for (const [words, , , score] of splices ?? []) if (score !== null) found.set(key(words, own), score);
    for (const [words, score] of found) scores.set(words, score);
    scoresOf.set(own, found);
  }

  // The best J of all sentences that a search met before a step, and that its method knows.
  function bestBefore(one, step) {
    const met = one.steps.slice(0, one.steps.indexOf(step)).flatMap((before) => (before.splices ?? []).map((splice) => splice[0]).concat(ends(one, before)));
    return Math.max(-Infinity, ...met.map((words) => scoresOf.get(method()).get(key(words)) ?? -Infinity));
  }
  const isLess = (value, other) => value < other - 0.0005;

  function chapterOf(one, step) {
    if (step.kind === "draws") return "draws";
    if (step.kind === "splices") return step.round ? `joins of round ${step.round}` : "first joins";
    const arrow = step.direction === "forward" ? "→" : "←";
    if (step.kind === "writing") return `writing ${arrow}`;
    return step.round ? `round ${step.round} ${arrow}` : `beam search ${arrow}`;
  }

  // ------------------------------------------------------------------------------------------------------ what is said

  const MODEL = { forward: "The forward model", backward: "The backward model" };
  const seen = document.querySelector(".picture") ? "the picture" : "the source";
  const named = (direction) => make("strong", { class: direction }, MODEL[direction]);

  function say(frame) {
    const own = method(), one = search();
    if (frame.kind === "intro") return sayIntro(own, one);
    if (frame.kind === "answer") return sayAnswer(own, one, frame);
    if (frame.kind === "bound") {
      const [rows, upper, best] = own.bounds[frame.at];
      return ["How good can any other sentence be?", [
        `After ${rows} words read, no sentence can have a score above ${nats(upper)}. The best sentence found so far has ${nats(best)}. `,
        upper !== null && best !== null && upper - best < 0.0005 ? "The two have met: the answer is proved." : "When the two meet, the answer is proved.",
      ]];
    }
    const step = one.steps[frame.step];
    if (frame.kind === "choice") return sayChoice(own, one, step, frame.choice);
    if (frame.kind === "end") return sayEnd(one, step, frame.choice);
    if (frame.kind === "splices") {
      const count = step.read, many = step.splices.length > 1, best = bestBefore(one, step), top = topOf(step);
      const reads = count === step.count ? `${["It was", "Both were"][count - 1] ?? `All ${count} were`} read to the end` : `Of these, ${count === 1 ? "one was" : `${count} were`} read to the end. The others had lower sums after a few words, and were given up`;
      return [step.round ? `Cut and join after round ${step.round}` : "Cut and join", [
        "A beginning from ", make("span", { class: "forward" }, "the forward lanes"), ", a word, and an ending from ", make("span", { class: "backward" }, "the backward lanes"), " are joined to a whole sentence. ",
        `The table has the ${many ? `${step.splices.length} most promising joins` : "most promising join"}${step.round ? " that no earlier step has tried" : ""}${many ? ", sorted by J" : ""}. `,
        "The value of a join is what the forward model gives to the beginning, plus what the backward model gives to the ending. Both judge the word. Do the halves fit? Each model must read the whole sentence, which gives J. ",
        `${reads}. `,
        count === 0 ? "" : isLess(top, best) ? `${["It is", "Both are"][count - 1] ?? "All are"} worse than the best so far, ${nats(best)}.` : `The best so far, ${nats(top)}, is in green.`,
      ]];
    }
    return [`Sweep ${step.round} of the chains`, [
      `${plural(one.beams, "chain", "chains")} of Gibbs sampling: each chain holds a whole sentence. One word after the other is drawn anew at random, by how probable both models find it between all other words. The words drawn in this sweep are marked.`,
    ]];
  }

  const topOf = (step) => Math.max(...step.splices.map((splice) => splice[3] ?? -Infinity));

  function blanksOf(one) {
    return one ? one.template.filter((known) => typeof known !== "number").length : 0;
  }

  function sayIntro(own, one) {
    const count = blanksOf(one), beams = one && one.steps.some(isSweep) ? one.beams : 0;
    const what = one && one.template.length ? `There ${count === 1 ? "is 1 missing word" : `are ${count} missing words`}` : "A whole sentence is missing";
    const choices = one ? one.template.filter((known) => typeof known !== "number").map((known) => known?.length ?? own.vocab) : [];
    const size = Math.floor(choices.reduce((sum, some) => sum + Math.log10(some), 0));
    const tries = count > 2 && size > 5 ? `. They make more than 10${superscript(size)} sentences, far too many to try` : "";
    return ["The question", [
      `${what}${tries}. `, named("forward"), ` guesses the next word from ${seen} and all words to the left of it. `,
      named("backward"), ` guesses the word before from ${seen} and all words to the right. A good sentence is one that both find probable. `,
      beams ? `At each word, a search keeps only the ${beams === 1 ? "best candidate, the beam" : `${beams} best candidates, the beams`}. ` : "",
      `You are watching ${own.name}${own.does ? `: ${own.title}` : ""}. Press Play or the arrow keys.`,
    ]];
  }
  const superscript = (number) => `${number}`.replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]);

  function sayChoice(own, one, step, number) {
    const choice = step.choices[number], back = step.direction === "backward", at = place(one, choice[0]);
    const before = number ? kept(step.choices[number - 1]) : 1;
    const best = number ? read(one, step, number - 1, 0) : [];
    one.template.forEach((known, position) => {
      if (typeof known === "number" && (back ? position > at : position < at)) best[position] = known;
    });
    const known = (back ? best.slice(at + 1) : best.slice(0, at)).filter((own) => own !== undefined);
    const others = before > 1 ? `, and ${plural(before - 1, back ? "other ending" : "other beginning", back ? "other endings" : "other beginnings")}` : "";
    const asks = back ? "Which word comes before?" : "Which word comes next?";
    const name = step.looks ? `Round ${step.round}, ${back ? "right to left" : "left to right"}` : `${back ? "Backward" : "Forward"} ${step.kind === "writing" ? "writing" : "beam search"}`;
    const missing = [...one.template.keys()].filter((position) => isBlank(one, position));
    const title = `${name}: ${step.kind === "writing" ? `word ${number + 1}` : `missing word ${missing.indexOf(at) + 1} of ${missing.length}`}`;
    const readNow = known.length ? ["has read ", short(known, back), others] : [back ? "begins at the end of the sentence" : "begins at the start of the sentence"];
    const many = own.vocab ? `${before > 1 ? `${before} × ` : ""}${own.vocab} candidates` : "all candidates";
    const stay = kept(choice);
    const hidden = one.template.some((known, position) => typeof known === "number" && (back ? position < at : position > at));
    const said = [named(step.direction), " ", ...readNow, `. ${asks} `];
    if (step.looks) {
      const far = MODEL[other(step.direction)];
      const half = back ? "beginning" : "ending", own = MODEL[step.direction];
      said.push(
        number ? `Both models have a say again. Each word gets the ${half} that suits it best. `
          : `Now the other side has a say. ${own} tells how well a word goes ${back ? "before this ending" : "after this beginning"}. ${far} tells how well it goes ${back ? "after" : "before"} one of the ${half}s that it has kept: each word gets the ${half} that suits it best. `,
        `Of ${many}, the ${stay === 1 ? "one with the best sum stays" : `${stay} with the best sums stay`}.${number ? "" : " The sums are provisional: only J, from reading the whole sentence, decides."}`,
      );
    } else {
      said.push(`Of ${many}, the ${stay === 1 ? "best stays" : `${stay} best stay`}, and the others are forgotten. ${hidden ? `${MODEL[step.direction]} cannot see what comes ${back ? "before" : "after"} the blank.` : ""}`);
    }
    return [title, said];
  }

  // A quotation of the words next to a blank; dots stand for the others.
  function short(words, back, most = 9) {
    if (words.length <= most) return quoted(words);
    return back ? quoted(words.slice(0, most), "", " …") : quoted(words.slice(-most), "… ");
  }

  function sayEnd(one, step, number) {
    const back = step.direction === "backward";
    if (step.repeated) {
      return [`Round ${step.round}, ${back ? "right to left" : "left to right"}`, [
        "The other side is as it was before an earlier sweep, so this sweep would choose the same words again. It is not run.",
      ]];
    }
    const finished = step.kind === "writing" || step.choices.length === blanksOf(one);
    if (number < 0 || !finished || !kept(step.choices[number])) {
      return ["A dead end", ["No word was possible any more. The search goes on with the beams from before."]];
    }
    const words = whole(one, read(one, step, number, 0));
    const open = one.template.slice(back ? 0 : place(one, step.choices[number][0]) + 1, back ? place(one, step.choices[number][0]) : undefined);
    const best = quoted(words.filter((own) => own !== undefined));
    if (step.kind === "writing") {
      return ["The free search is complete", [named(step.direction), " has written whole sentences of different lengths. The lengths it found are searched next with both models."]];
    }
    if (step.looks) {
      return [`Round ${step.round}: the sweep is complete`, ["The sentence with the best sum is ", best, ".", ...judgedAfter(one, step, words), ...nextOf(one, step)]];
    }
    const blind = open.length ? [" It chose every word without seeing ", short(open, !back), ". Do they fit?"] : [];
    return [`The ${back ? "backward" : "forward"} search is complete`, [named(step.direction), " likes ", best, " best.", ...blind, ...judged(words)]];
  }

  // What both models think of a sentence that some method on this page has read to its end.
  function judged(words) {
    const found = data.methods.flatMap((own) => own.hypotheses).find((one) => one.sums[0] !== null && one.sums[1] !== null && text(one.words) === text(words.filter((own) => own !== undefined)));
    return found ? [` Read whole by both models, its J is ${nats(found.joint)}. `, ...weakest(found)] : [];
  }
  // What became of the sentence of a sweep that looked at the other side.
  function judgedAfter(one, step, words) {
    const score = scores.get(key(words)), best = bestBefore(one, step);
    if (score === undefined) return [` It is only a candidate: it was not among the best ${one.steps.some((later) => later.kind === "splices") ? "joins, and only these are read to the end" : "sentences of this search"}.`];
    return [` Read whole by both models, its J is ${nats(score)}, ${isLess(score, best) ? `worse than the best so far, ${nats(best)}` : "the best so far"}.`];
  }
  // What follows a sweep: the next one, or the reason why there is none.
  function nextOf(one, step) {
    const next = one.steps.slice(one.steps.indexOf(step) + 1).find(isSweep);
    if (next) return next.repeated ? [] : [` The next sweep runs the other way, and ${MODEL[step.direction].toLowerCase()} has its say there with the beams that you see now.`];
    return [` No sweep follows. ${method().bounds.length ? "The proof comes next." : ended(method(), one, origin(method(), one).origin)}`];
  }
  function weakest(hypothesis) {
    let worst = null;
    for (const direction of ["forward", "backward"]) {
      (hypothesis.terms[direction] ?? []).slice(0, hypothesis.words.length).forEach((value, at) => {
        if (value !== null && (!worst || value < worst.value)) worst = { value, at, direction };
      });
    }
    if (!worst || worst.value > -4) return [];
    return ["Its weakest point is ", quoted([hypothesis.words[worst.at]]), `, to which the ${worst.direction} model gives only a chance of 1 in ${about(Math.exp(-worst.value))} (${nats(worst.value, 1)} nats).`];
  }
  const about = (number) => Number(number.toPrecision(1)).toLocaleString("en");

  // The methods that have the best sentence of a method, with itself.
  const finders = (own) => data.methods.filter((one) => one.hypotheses.length && text(one.hypotheses[0].words) === text(own.hypotheses[0].words));

  function bestOfAll() {
    return data.methods.filter((one) => one.hypotheses.length && one.hypotheses[0].joint !== null)
      .sort((one, two) => two.hypotheses[0].joint - one.hypotheses[0].joint)[0];
  }

  function sayAnswer(own, one, frame) {
    if (!own.hypotheses.length) return ["No answer", [own.stop]];
    const best = own.hypotheses[0], top = bestOfAll();
    const said = [`${own.name} answers `, quoted(best.words), ". ", ...foundBy(one, frame)];
    if (best.joint !== null && best.sums[0] !== null) {
      said.push(`Its J is ${nats(best.joint)}: ${nats(best.sums[0])} from the forward model and ${nats(best.sums[1])} from the backward model. `, ...weakest(best), " ");
      const same = finders(own).filter((other) => other !== own), first = frame.origin && one.steps[frame.origin.step];
      if (same.length) said.push(`${listed(same.map((other) => other.name))} found the same sentence. `);
      if (first && !first.looks && !first.round && one.steps.some((step) => step.looks)) said.push("Here the rounds found nothing better. ");
      if (top && isLess(best.joint, top.hypotheses[0].joint)) {
        said.push(`${listed(finders(top).map((other) => other.name))} found a sentence with a better J, ${nats(top.hypotheses[0].joint)}: `, quoted(top.hypotheses[0].words), ". ");
      } else if (data.methods.length > 1) said.push("No method on this page found a better one. ");
    }
    said.push(make("span", { class: "note" }, ended(own, one, frame.origin)));
    return ["The answer", said];
  }
  function foundBy(one, frame) {
    if (!frame.origin) return [];
    const step = one.steps[frame.origin.step], back = step.direction === "backward";
    if (step.kind === "splices") {
      const [words, at] = step.splices[frame.rank];
      return [`It was found by a join ${step.round ? `after round ${step.round}` : "of the first two searches"}: a beginning from the forward lanes and an ending from the backward lanes meet at `, quoted([words[at]]), ". The bold path shows them. "];
    }
    const sweep = step.looks ? `round ${step.round}, ${back ? "right to left" : "left to right"}` : `the ${step.direction} beam search`;
    return [`It was found by ${sweep}, where it was ${frame.rank ? `number ${frame.rank + 1}` : "the best sentence"}. The bold path shows it. `];
  }

  // Why the search ended. The result says it for any search; here the steps tell which reason it was.
  function ended(own, one, found) {
    const joins = one ? one.steps.filter((step) => step.kind === "splices") : [], last = joins[joins.length - 1];
    if (own.reason !== "no_gain" || !last || !found) return own.stop;
    const again = "A larger beam may find a better sentence.";
    if (last.count > one.beams) return `The search ended here because its last rounds found nothing better. ${again}`;
    const worse = one.steps[found.step].round < last.round;
    return `The search ended ${last.round ? `after round ${last.round}` : "after the first joins"} because ${last.count ? `only ${plural(last.count, "new sentence was", "new sentences were")}` : "no new sentence was"} left to try${last.count && worse ? `, and ${last.count === 1 ? "it was not" : "none was"} better` : ""}. ${again}`;
  }

  // --------------------------------------------------------------------------------------------------------- the board

  const widths = new Map();
  function columns(one) {
    if (widths.has(one)) return widths.get(one);
    const longest = new Array(size(one)).fill(2);
    const see = (at, own) => { longest[at] = Math.max(longest[at], Math.min(18, [...word(own)].length)); };
    one.template.forEach((known, at) => { if (typeof known === "number") see(at, known); });
    for (const step of one.steps) {
      if (isSweep(step)) for (const [position, rows] of step.choices) for (const row of rows) if (row[2]) see(place(one, position), row[0]);
      if (step.kind === "splices") for (const splice of step.splices) splice[0].forEach((own, at) => see(at, own));
    }
    for (const hypothesis of method().hypotheses) if (hypothesis.words.length === one.template.length) hypothesis.words.forEach((own, at) => see(at, own));
    let x = MARGIN;
    const found = longest.map((letters) => {
      const width = 14 + 7 * letters, column = { x, width };
      x += width + 11;
      return column;
    });
    widths.set(one, { columns: found, width: x });
    return widths.get(one);
  }

  function lanesAt(one, frame) {
    // For each direction and place: the sweep and choice that are shown there, and whether they are of an earlier sweep.
    const shown = { forward: new Map(), backward: new Map() };
    const last = frame.step === undefined ? (frame.kind === "answer" || frame.kind === "bound" ? one.steps.length - 1 : -1) : frame.until ?? frame.step;
    for (let number = 0; number <= last; number += 1) {
      const step = one.steps[number];
      if (!isSweep(step) || step.repeated) continue;
      const lanes = shown[step.direction];
      for (const entry of lanes.values()) entry.old = true;
      const until = number === last && frame.kind === "choice" ? frame.choice : step.choices.length - 1;
      for (let choice = 0; choice <= until; choice += 1) lanes.set(place(one, step.choices[choice][0]), { step, choice, old: false });
      if (!(number === last && frame.kind === "choice")) for (const [at, entry] of lanes) if (entry.step !== step) lanes.delete(at);
    }
    return shown;
  }

  function board(frame) {
    const one = search(), host = $("board"), rank = frame.rank ?? 0;
    host.replaceChildren();
    host.hidden = $("key").hidden = !one || !size(one) || frame.kind === "draws" || frame.kind === "bound";
    if (host.hidden) return;
    if (frame.origin) frame = frame.origin;
    const layout = columns(one), shown = lanesAt(one, frame);
    const count = Math.min(one.beams, MOST_LANES);
    const has = (direction) => one.steps.some((step) => isSweep(step) && step.direction === direction);
    const top = has("forward") ? count * LANE + 12 : 8, middle = top + 13, bottom = top + 42;
    const height = bottom + (has("backward") ? count * LANE + 8 : 4);
    const narrow = host.clientWidth < 500, side = narrow ? 46 : 122;
    // A long sentence is drawn a little smaller. If that is not enough, the board scrolls.
    const scale = Math.max(0.78, Math.min(1, (host.clientWidth - side - 2) / layout.width));
    const svg = draw("svg", { width: layout.width * scale, height: height * scale, viewBox: `0 0 ${layout.width} ${height}` });
    const y = { forward: (rank) => top - 8 - LANE * rank - CHIP / 2, backward: (rank) => bottom + 8 + LANE * rank + CHIP / 2 - 6 };
    const step = frame.step === undefined ? null : one.steps[frame.step];
    const now = frame.kind === "choice" ? place(one, step.choices[frame.choice][0]) : -1;
    if (now >= 0) svg.append(draw("rect", { class: "here", x: layout.columns[now].x - 8, y: 0, width: layout.columns[now].width + 16, height, rx: 6 }));
    const names = draw("svg", { class: "names", width: side * scale, height: height * scale, viewBox: `0 0 ${side} ${height}`, "aria-hidden": true });
    if (has("forward")) names.append(draw("text", { class: "side f", x: 2, y: y.forward(0) + 4 }, narrow ? "→" : "forward →"));
    if (has("backward")) names.append(draw("text", { class: "side b", x: 2, y: y.backward(0) + 4 }, narrow ? "←" : "← backward"));
    if (!narrow) names.append(draw("text", { class: "number", x: 2, y: middle + 8 }, "sentence"));
    for (const direction of ["forward", "backward"]) if (has(direction)) {
      for (let rank = 0; rank < count; rank += 1) names.append(draw("text", { class: "number", x: side - 12, y: y[direction](rank) + 4, "text-anchor": "end" }, `${rank + 1}`));
    }
    const links = draw("g", {}), chips = draw("g", {});
    svg.append(links, chips);
    const nodes = new Map();
    for (const direction of ["forward", "backward"]) {
      for (const [at, entry] of shown[direction]) {
        const rows = entry.step.choices[entry.choice][1];
        rows.forEach((row, rank) => {
          if (!row[2] || rank >= count) return;
          chip(one, layout, chips, links, nodes, y, middle, direction, at, entry, rank, row);
        });
      }
    }
    layout.columns.forEach((column, at) => {
      const known = one.template.length && !isBlank(one, at);
      const group = draw("g", { class: known ? "known" : "blank" });
      group.append(draw("rect", { x: column.x, y: middle - CHIP / 2 + 4, width: column.width, height: CHIP, rx: 4 }));
      group.append(draw("text", { x: column.x + column.width / 2, y: middle + 8, "text-anchor": "middle", "data-guess": known ? null : at }, known ? clipped(word(one.template[at])) : ""));
      svg.append(group);
    });
    const scroller = make("div", { class: "scroller" }, svg);
    host.append(names, scroller);
    roving(host);
    lightUp(frame, rank);
    const column = layout.columns[now >= 0 ? now : Math.max(0, one.template.findIndex((known) => typeof known !== "number"))];
    // The current word stands near the middle, and no word is cut at the left edge.
    const left = column ? Math.min(scale * (column.x + column.width / 2) - scroller.clientWidth / 2, scale * layout.width - scroller.clientWidth) : 0;
    scroller.scrollLeft = Math.max(0, ...layout.columns.map((one) => scale * (one.x - 8)).filter((x, at) => at && x <= left));
  }

  const clipped = (own) => ([...own].length > 18 ? `${[...own].slice(0, 17).join("")}…` : own);

  // The sentence that stands between the beams: that of the path in bold.
  function sentenceOf(one, frame, rank) {
    const step = one.steps[frame.step];
    if (frame.kind === "splices") return step.splices[rank]?.[0] ?? [];
    if (frame.kind === "choice" || frame.kind === "end") {
      if (frame.choice < 0 || !step.choices[frame.choice][1][rank]) return [];
      return frame.kind === "end" ? read(one, step, frame.choice, rank) : sentence(one, step, frame.choice, rank);
    }
    const best = method().hypotheses[0]?.words ?? [];
    const fits = best.length === one.template.length && best.every((own, at) => isBlank(one, at) || one.template[at] === own);
    return frame.kind === "answer" && fits ? best : [];
  }

  function chip(one, layout, chips, links, nodes, y, middle, direction, at, entry, rank, row) {
    const column = layout.columns[at], side = direction[0], center = y[direction](rank);
    const key = `${direction} ${at} ${rank}`;
    const words = read(one, entry.step, entry.choice, rank).filter((own) => own !== undefined);
    const tip = `${text(words)}\n${direction} model: ${nats(row[3] + row[4])} nats so far (this word: ${nats(row[4])})${row.length > 6 && row[6] !== null ? `\nlook-ahead: ${nats(row[6])}, total ${nats(row[5])}` : ""}\nrank ${rank + 1} at this position`;
    const group = draw("g", {
      class: `chip ${side}${entry.old ? " old" : ""}`, tabindex: -1, role: "img", "aria-label": tip.replace(/\n/g, ". "),
      "data-tip": tip, "data-x": at, "data-y": direction === "forward" ? -1 - rank : rank, "data-key": key,
    });
    group.append(draw("rect", { x: column.x, y: center - CHIP / 2, width: column.width, height: CHIP }));
    group.append(draw("text", { x: column.x + column.width / 2, y: center + 4.5, "text-anchor": "middle" }, clipped(word(row[0]))));
    chips.append(group);
    nodes.set(key, group);
    const back = direction === "backward";
    const from = entry.choice > 0 ? place(one, entry.step.choices[entry.choice - 1][0]) : back ? at + 1 : at - 1;
    const start = layout.columns[from];
    const parentY = entry.choice > 0 && row[1] >= 0 ? y[direction](Math.min(row[1], MOST_LANES - 1)) : middle + 4;
    const x1 = start ? (back ? start.x : start.x + start.width) : back ? column.x + column.width + 22 : column.x - 22;
    const x2 = back ? column.x + column.width : column.x;
    if (entry.choice > 0 && row[1] < 0) return;
    const bend = (x2 - x1) / 2;
    const tipX = back ? x2 + 5 : x2 - 5;
    links.append(draw("path", { class: `link ${side}${entry.old ? " old" : ""}`, d: `M${x1},${parentY} C${x1 + bend},${parentY} ${x2 - bend},${center} ${tipX},${center}`, "data-key": key }));
    links.append(draw("path", { class: `tips ${side} link-tip`, d: back ? `M${x2},${center} l6,-3.4 v6.8 z` : `M${x2},${center} l-6,-3.4 v6.8 z`, opacity: entry.old ? 0.2 : 0.8 }));
  }

  // Light up the beam of a candidate and the far side that it looks at.
  function lightUp(frame, rank) {
    const host = $("board");
    host.querySelectorAll(".lit").forEach((one) => one.classList.remove("lit"));
    host.querySelectorAll(".join").forEach((one) => one.remove());
    const one = search(), step = one && one.steps[frame.step];
    const words = one ? sentenceOf(one, frame, rank) : [];
    host.querySelectorAll("[data-guess]").forEach((guess) => { const own = words[guess.dataset.guess]; guess.textContent = own === undefined ? "" : clipped(word(own)); });
    if (frame.kind === "splices" && step.splices[rank]) lightSentence(frame, step.splices[rank][0], step.splices[rank][1]);
    if (frame.kind !== "choice" && frame.kind !== "end") return;
    if (frame.choice < 0 || !step.choices[frame.choice][1][rank]) return;
    const lit = (own, choice, row) => {
      for (let now = choice; now >= 0 && row >= 0; now -= 1) {
        const key = `${own.direction} ${place(one, own.choices[now][0])} ${row}`;
        host.querySelectorAll(`[data-key="${key}"]`).forEach((found) => found.classList.add("lit"));
        row = own.choices[now][1][row][1];
      }
    };
    const candidate = step.choices[frame.choice][1][rank];
    const at = place(one, step.choices[frame.choice][0]);
    if (candidate[2]) lit(step, frame.choice, rank);
    else if (frame.choice) lit(step, frame.choice - 1, candidate[1]);
    if (!step.looks || candidate.length < 8 || candidate[7] < 0) return;
    const far = farChoice(one, step, at);
    if (!far) return;
    lit(far.step, far.choice, candidate[7]);
    const target = host.querySelector(`.chip[data-key="${far.step.direction} ${place(one, far.step.choices[far.choice][0])} ${candidate[7]}"] rect`);
    const source = candidate[2] ? host.querySelector(`.chip[data-key="${step.direction} ${at} ${rank}"] rect`) : null;
    joinLine(source, target, step.direction === "backward");
  }

  // The dotted line from a word to the beam of the other direction that goes on from it.
  function joinLine(source, target, back) {
    if (!source || !target) return;
    const middle = (rect, edge) => [Number(rect.getAttribute("x")) + (edge ? Number(rect.getAttribute("width")) : 0), Number(rect.getAttribute("y")) + CHIP / 2];
    const [x1, y1] = middle(source, !back), [x2, y2] = middle(target, back);
    $("board").querySelector(".scroller svg").append(draw("path", { class: "join", d: `M${x1},${y1} C${x1 + (back ? -30 : 30)},${y1} ${x2 + (back ? 30 : -30)},${y2} ${x2},${y2}` }));
  }

  // Light up the beams that a joined sentence comes from.
  function lightSentence(frame, words, join) {
    const one = search(), ends = {};
    for (const [direction, lanes] of Object.entries(lanesAt(one, frame))) {
      for (const [at, entry] of lanes) {
        if (direction === "forward" ? at > join : at <= join) continue;
        const rank = entry.step.choices[entry.choice][1].findIndex((row, own) => row[2] && read(one, entry.step, entry.choice, own).every((each, place) => each === undefined || each === words[place]));
        if (rank < 0) continue;
        $("board").querySelectorAll(`[data-key="${direction} ${at} ${rank}"]`).forEach((found) => found.classList.add("lit"));
        if (!ends[direction] || (direction === "forward" ? at > ends[direction][0] : at < ends[direction][0])) ends[direction] = [at, rank];
      }
    }
    const [source, target] = ["forward", "backward"].map((direction) => ends[direction] && $("board").querySelector(`.chip[data-key="${direction} ${ends[direction].join(" ")}"] rect`));
    joinLine(source, target, false);
  }

  // -------------------------------------------------------------------------------------------------------- the detail

  function detail(frame) {
    const host = $("detail");
    host.replaceChildren();
    if (frame.kind === "choice" || (frame.kind === "end" && frame.choice >= 0)) host.append(...candidates(frame));
    if (frame.kind === "splices") host.append(spliceTable(frame));
    if (frame.kind === "draws") host.append(chains(frame));
    if (frame.kind === "bound") host.append(chart(frame.at));
    if (frame.kind === "answer" && method().hypotheses.length) host.append(...answers());
  }

  // One scale for all bars of a search. A longer bar, of a candidate that was dropped, is cut off at its end.
  const scales = new Map();
  function scale(own, one) {
    if (!scales.has(one)) {
      const kept = (one?.steps ?? []).filter(isSweep).flatMap((step) => step.choices.flatMap(([, rows]) => rows.filter((row) => row[2]).map((row) => -(row[5] ?? 0))));
      scales.set(one, 1.1 * Math.max(0.001, ...kept, ...own.hypotheses.map((best) => -((best.sums[0] ?? 0) + (best.sums[1] ?? 0)))));
    }
    return scales.get(one);
  }

  function bars(parts) {
    const longest = scale(method(), search());
    const svg = draw("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": true });
    let x = 0;
    for (const [kind, value] of parts) {
      const width = (100 * Math.max(0, -(value ?? 0))) / longest;
      if (width > 0) svg.append(draw("rect", { class: kind, x, y: 0, width: Math.max(width, 0.3), height: 10 }));
      x += width;
    }
    if (x > 100) svg.append(draw("path", { class: "over", d: "M95,0 L97,0 L99,10 L97,10 Z" }));
    return svg;
  }

  function candidates(frame) {
    const one = search(), step = one.steps[frame.step], [position, rows] = step.choices[frame.choice];
    const at = place(one, position), back = step.direction === "backward";
    const changes = rows.some((row) => row.length > 8);
    const key = (kind, ...says) => make("li", {}, make("i", { class: kind }), says);
    const own = [key(`i-${step.direction}`, `${step.direction} model: words ${back ? "after" : "before"}`), key(`i-${step.direction} i-word`, "this word")];
    const far = step.looks ? [key(`i-${other(step.direction)}`, `${other(step.direction)} model: this word and its best ${back ? "beginning" : "ending"}`)] : [];
    const legend = make("ul", { class: "legend" }, back ? [...far, ...own.reverse()] : [...own, ...far],
      changes ? make("li", {}, "plus what constraints and priors add") : null,
      make("li", {}, "the shorter the bar, the better"),
      make("li", { class: "head" }, step.looks ? "provisional sum" : `the ${step.direction} model’s score so far`));
    const list = make("ol", { class: "rows", "aria-label": "Candidates, best first" });
    let cut = false;
    rows.forEach((row, rank) => {
      if (!row[2] && !cut) {
        cut = true;
        list.append(make("li", { class: "cut" }, "dropped (the best of all others):"));
      }
      const words = sentence(one, step, frame.choice, rank);
      const near = (back ? words.slice(at + 1) : words.slice(0, at)).filter((own) => own !== undefined);
      const far = step.looks ? (back ? words.slice(0, at) : words.slice(at + 1)).filter((own) => own !== undefined) : [];
      const left = back ? far : near, right = back ? near : far;
      const cutLeft = left.length > 6, cutRight = right.length > 6;
      const spoken = make("span", { class: "spoken" },
        make("span", { class: back ? "far" : "" }, `${cutLeft ? "…\u00a0" : ""}${text(left.slice(-6))}${left.length ? data.space : ""}`),
        make("b", {}, word(row[0])),
        make("span", { class: back ? "" : "far" }, `${right.length ? data.space : ""}${text(right.slice(0, 6))}${cutRight ? "\u00a0…" : ""}`));
      // In the order of the sentence: the forward model's part is always on the left.
      const parts = [[`of-${step.direction}`, row[3]], [`of-${step.direction} of-word`, row[4]], [`of-${other(step.direction)}`, step.looks ? row[6] : 0]];
      if (back) parts.reverse();
      parts.push(["of-change", row[8]]);
      const numbers = `words so far ${nats(row[3])}, this word ${nats(row[4])}${step.looks && row.length > 6 ? `, look-ahead ${nats(row[6])}` : ""}${row.length > 8 ? `, constraints and prior ${nats(row[8])}` : ""}, total ${nats(row[5])} nats`;
      const item = make("li", {
        class: `row${row[2] ? "" : " out"}`, tabindex: 0, "data-rank": rank, "data-tip": `${row[2] ? `kept, rank ${rank + 1}` : "dropped"}\n${numbers.replace(/, /g, "\n")}`,
        "aria-label": `${row[2] ? "kept" : "dropped"}: ${text(words.filter((own) => own !== undefined))}. ${numbers}`,
      }, make("span", { class: "mark", "aria-hidden": true }, row[2] ? "✓" : "✗"), spoken, bars(parts), make("span", { class: "total" }, nats(row[5])));
      for (const kind of ["mouseenter", "focus"]) item.addEventListener(kind, () => lightUp(frame, rank));
      list.append(item);
    });
    if (!rows.length) return [make("p", { class: "note" }, "No word was possible.")];
    return [legend, list];
  }

  // The halves of a join that do not come from the lanes, in words: they are those of the best sentences found before.
  function foundBefore(one, frame, words, join) {
    const lanes = Object.entries(lanesAt(one, frame)), names = { forward: "the beginning", backward: "the ending" };
    const missing = lanes.filter(([direction, own]) => {
      const places = [...own.keys()].filter((at) => (direction === "forward" ? at < join : at > join)).sort((a, b) => Math.abs(a - join) - Math.abs(b - join));
      if (!places.length) return false;
      const { step, choice } = own.get(places[0]);
      return !step.choices[choice][1].some((row, rank) => row[2] && read(one, step, choice, rank).every((each, place) => each === undefined || each === words[place]));
    }).map(([direction]) => names[direction]);
    return missing.length ? make("span", { class: "note" }, ` (${missing.join(" and ")} of a sentence found before)`) : null;
  }

  function spliceTable(frame) {
    const one = search(), step = one.steps[frame.step], top = topOf(step), won = !isLess(top, bestBefore(one, step));
    const table = make("table", { class: "joins" }, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "beginning, word and ending"), make("th", { scope: "col", class: "n" }, "value of the join"), make("th", { scope: "col", class: "n" }, "J, read to the end"))));
    const body = make("tbody");
    step.splices.forEach(([words, at, value, score], number) => {
      const row = make("tr", { class: won && score !== null && score === top ? "best" : "", tabindex: 0 },
        make("td", {}, make("span", { class: "forward" }, text(words.slice(0, at))), data.space, make("strong", {}, word(words[at])), data.space, make("span", { class: "backward" }, text(words.slice(at + 1))), foundBefore(one, frame, words, at)),
        make("td", { class: "n" }, nats(value)), make("td", { class: "n" }, score === null ? "given up" : nats(score)));
      for (const kind of ["mouseenter", "focus"]) row.addEventListener(kind, () => lightUp(state.frames[state.frame], number));
      body.append(row);
    });
    table.append(body);
    return make("div", { class: "scroll" }, table, step.count > step.splices.length ? make("p", { class: "note" }, `and ${step.count - step.splices.length} more`) : null);
  }

  function chains(frame) {
    const one = search(), words = new Map();
    for (let number = 0; number <= frame.step; number += 1) {
      for (const [chain, position, own] of one.steps[number].draws) {
        if (!words.has(chain)) words.set(chain, one.template.map((known) => (typeof known === "number" ? known : undefined)));
        words.get(chain)[position] = own;
      }
    }
    const drawn = new Map(one.steps[frame.step].draws.map(([chain, position, , log]) => [`${chain} ${position}`, log]));
    const list = make("ol", { class: "drawn" });
    for (const [chain, own] of [...words].sort((a, b) => a[0] - b[0])) {
      const item = make("li");
      own.forEach((each, at) => {
        const log = drawn.get(`${chain} ${at}`);
        const shown = each === undefined ? "_" : word(each);
        item.append(log === undefined ? shown : make("b", { "data-tip": `drawn with probability ${percent(Math.exp(log))}` }, shown), data.space);
      });
      list.append(item);
    }
    return list;
  }

  function chart(at) {
    const bounds = method().bounds, width = 640, height = 220, left = 46, top = 12, foot = 190;
    const values = bounds.flatMap(([, upper, best]) => [upper, best]).filter((value) => value !== null);
    const low = Math.min(...values), high = Math.max(...values), last = bounds[bounds.length - 1][0] || 1, begin = bounds[0][0];
    const x = (rows) => left + ((width - left - 12) * (rows - begin)) / Math.max(1, last - begin);
    const y = (value) => top + ((foot - top) * (high - value)) / Math.max(0.001, high - low);
    const path = (column) => bounds.filter((bound) => bound[column] !== null).map((bound, number) => `${number ? "L" : "M"}${x(bound[0]).toFixed(1)},${y(bound[column]).toFixed(1)}`).join(" ");
    return draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Upper bound and best score against words read. Now ${bounds[at][0]} words read, bound ${nats(bounds[at][1])}, best ${nats(bounds[at][2])}.` },
      draw("line", { class: "axis", x1: left, x2: width - 8, y1: foot, y2: foot }), draw("path", { class: "upper", d: path(1) }), draw("path", { class: "lower", d: path(2) }),
      draw("line", { class: "now", x1: x(bounds[at][0]), x2: x(bounds[at][0]), y1: top, y2: foot }),
      draw("text", { x: 2, y: y(high) + 4 }, nats(high, 1)), draw("text", { x: 2, y: y(low) + 4 }, nats(low, 1)), draw("text", { x: left, y: foot + 18 }, `${begin} words read`),
      draw("text", { x: width - 8, y: foot + 18, "text-anchor": "end" }, `${last} words read`), draw("text", { x: width - 14, y: top + 14, "text-anchor": "end" }, "blue: no sentence is above this; green: the best found"));
  }

  function answers() {
    const own = method(), shown = own.hypotheses.filter((one) => one.joint !== null && one.sums[0] !== null && one.sums[1] !== null);
    if (!shown.length) return [];
    return [
      make("ul", { class: "legend" }, make("li", {}, make("i", { class: "i-forward" }), "forward model"), make("li", {}, make("i", { class: "i-backward" }), "backward model"), make("li", {}, "log-probability of the whole sentence: the shorter the bar, the better"),
        shown.some((one, rank) => rank && one.joint > shown[rank - 1].joint) ? make("li", {}, `${own.name} ranks by its own score, not by J`) : null,
        make("li", { class: "head" }, "J, their sum")),
      make("ol", { class: "rows" }, ...shown.map((one, rank) => {
        const svg = bars([["of-forward", one.sums[0]], ["of-backward", one.sums[1]]]);
        const numbers = `J ${nats(one.joint)}\nforward ${nats(one.sums[0])}\nbackward ${nats(one.sums[1])}`;
        return make("li", { class: "row", tabindex: 0, "data-tip": numbers, "aria-label": `${text(one.words)}. ${numbers.replace(/\n/g, ", ")}` },
          make("span", { class: "mark" }, `${rank + 1}`), blanked(one), svg, make("span", { class: "total" }, nats(one.joint)));
      })),
    ];
  }

  function blanked(hypothesis) {
    const host = make("span", { class: "spoken" });
    hypothesis.words.forEach((own, at) => {
      if (at) host.append(data.space);
      host.append(hypothesis.blank[at] ? make("span", { class: "filled" }, word(own)) : word(own));
    });
    return host;
  }

  // --------------------------------------------------------------------------- ranking, differences, and how sure it is

  const level = (value) => (value === null ? 4 : value > -0.3 ? 0 : value > -1 ? 1 : value > -2.5 ? 2 : value > -5 ? 3 : 4);

  function ranking() {
    const own = method(), host = $("ranking");
    host.replaceChildren();
    if (!own.hypotheses.length) return;
    host.append(make("h2", {}, `The sentences of ${own.name}, word by word`),
      make("p", { class: "note" }, "The stronger the colour of a field, the more that model is surprised by the word. One strong field is enough to make a sentence bad. It often stands at an edge of the blank. Numbers are log-probabilities in nats."));
    own.hypotheses.slice(0, 5).forEach((one, rank) => host.append(heat(one, rank)));
  }

  const foundShare = (share) => `${percent(share)} of what ${method().name} found`;

  function heat(one, rank) {
    const names = { forward: "forward →", backward: "← backward", both: "given all others" };
    const facts = [one.joint === null ? null : `J ${nats(one.joint)}`, one.score !== null && one.score !== one.joint ? `score ${nats(one.score)}` : null, ...one.broken.map((name) => `violates: ${name}`)];
    const table = make("table", { class: "heat-table" });
    const head = make("tr", {}, make("td"));
    const start = "backward" in one.terms, end = "forward" in one.terms;
    if (start) head.append(make("th", { scope: "col", class: "note" }, "start"));
    one.words.forEach((own, at) => head.append(make("th", { scope: "col", class: one.blank[at] ? "filled" : "" }, word(own))));
    if (end) head.append(make("th", { scope: "col", class: "note" }, "end"));
    table.append(make("thead", {}, head));
    const body = make("tbody");
    for (const [name, terms] of Object.entries(one.terms)) {
      const row = make("tr", {}, make("th", { scope: "row", class: name }, names[name]));
      const cell = (value) => make("td", { class: `n h${level(value)}` }, nats(value, 1));
      const last = terms[one.words.length];
      if (start) row.append(name === "backward" && last !== undefined ? cell(last) : make("td"));
      one.words.forEach((_, at) => row.append(cell(terms[at])));
      if (end) row.append(name === "forward" && last !== undefined ? cell(last) : make("td"));
      body.append(row);
    }
    table.append(body);
    return make("div", { class: "heat" }, make("div", { class: "heat-head" }, make("strong", {}, `${rank + 1}.`), blanked(one), one.share === null ? null : make("span", {}, foundShare(one.share)), make("span", { class: "note" }, facts.filter((fact) => fact).join(" · "))), make("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": `Log-probabilities of sentence ${rank + 1}` }, table));
  }

  // Flags of the words that are not in a longest common part with another sentence.
  function differs(words, others) {
    const table = Array.from({ length: words.length + 1 }, () => new Array(others.length + 1).fill(0));
    for (let i = words.length - 1; i >= 0; i -= 1) for (let j = others.length - 1; j >= 0; j -= 1) {
      table[i][j] = words[i] === others[j] ? 1 + table[i + 1][j + 1] : Math.max(table[i + 1][j], table[i][j + 1]);
    }
    const flags = new Array(words.length).fill(true);
    for (let i = 0, j = 0; i < words.length && j < others.length;) {
      if (words[i] === others[j]) { flags[i] = false; i += 1; j += 1; } else if (table[i + 1][j] >= table[i][j + 1]) i += 1; else j += 1;
    }
    return flags;
  }

  function differences() {
    const host = $("differences");
    host.replaceChildren();
    if (data.methods.length < 2) return;
    const top = bestOfAll(), winners = top ? finders(top) : [];
    const body = make("tbody");
    for (const own of data.methods) {
      const best = own.hypotheses[0];
      const cells = make("td");
      if (best) {
        const flags = top ? differs(best.words, top.hypotheses[0].words) : [];
        best.words.forEach((each, at) => cells.append(at ? data.space : "", flags[at] ? make("span", { class: "added" }, word(each)) : word(each)));
      } else cells.append(make("em", {}, "no sentence"));
      const number = (value) => make("td", { class: "n" }, value === null || value === undefined ? "" : nats(value));
      body.append(make("tr", { class: winners.includes(own) ? "best" : "" }, make("th", { scope: "row" }, own.name), cells, number(best?.joint), number(best?.sums[0]), number(best?.sums[1]), make("td", { class: "n" }, `${own.rows}`)));
    }
    const head = ["method", "best sentence", "J", "forward", "backward", "words read"].map((name, at) => make("th", { scope: "col", class: at > 1 ? "n" : "" }, name));
    host.append(make("h2", {}, "Side by side"), make("p", { class: "note" }, top ? `${winners.length === 2 ? "Both " : ""}${listed(winners.map((own) => own.name))} found the sentence with the highest J. Words that differ from it are underlined. J is what both models say together. “Words read” is the work: how many words the models read, for all candidates.` : ""),
      make("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Methods side by side" }, make("table", {}, make("thead", {}, make("tr", {}, head)), body)));
  }

  function sure() {
    const host = $("sure"), own = method().sure;
    host.replaceChildren();
    if (!own) return;
    const chance = (first) => ([what, estimate, low, high], rank) => make("li", {},
      make("span", { class: "chance", "aria-hidden": true }, draw("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none" }, draw("rect", { x: 0, y: 0, width: 100 * estimate, height: 10 }))),
      `${Array.isArray(what) ? text(what) || "(nothing)" : word(what)}: `, make("strong", {}, first && !rank ? foundShare(estimate) : percent(estimate)), low > 0 ? make("span", { class: "note" }, `, certainly between ${percent(low)} and ${percent(high)}`) : null);
    host.append(make("h2", {}, "How sure?"), make("p", { class: "note" }, own.mass[0] > 0 ? `Probabilities among the ${plural(own.sentences, "sentence", "sentences")} that the search has completed, which have at least ${percent(own.mass[0])} of the probability of all sentences.` : `Probabilities among the ${plural(own.sentences, "best sentence", "best sentences")} of ${method().name}. All other sentences are left out, so the true probabilities are lower.`));
    own.spans.forEach((spans, number) => { if (spans[0] && spans[0][0].length) host.append(make("h3", {}, own.spans.length > 1 ? `Blank ${number + 1}` : "The blank"), make("ol", {}, spans.map(chance(true)))); });
    const doubts = own.words.map((words, at) => [words, at]).filter(([words]) => words.length > 1);
    if (doubts.length) {
      host.append(make("h3", {}, "Word by word"), doubts.length < own.words.length ? make("p", { class: "note" }, "All other missing words are the same in every sentence that was found.") : "",
        make("div", { class: "columns" }, doubts.map(([words, at]) => make("div", {}, make("span", { class: "note" }, `missing word ${at + 1}`), make("ol", {}, words.slice(0, 3).map(chance(false)))))));
    }
  }

  // --------------------------------------------------------------------------------------------------- moving about

  function show(number, focus) {
    state.frame = Math.max(0, Math.min(state.frames.length - 1, number));
    const frame = state.frames[state.frame], [heading, said] = say(frame);
    $("heading").textContent = heading;
    $("says").replaceChildren(...said);
    $("slider").value = state.frame;
    $("slider").setAttribute("aria-valuetext", `step ${state.frame + 1} of ${state.frames.length}: ${heading}`);
    $("count").textContent = `${state.frame + 1} of ${state.frames.length}`;
    for (const [id, off] of [["first", state.frame === 0], ["back", state.frame === 0], ["next", state.frame === state.frames.length - 1]]) $(id).disabled = off;
    $("chapters").querySelectorAll("button").forEach((button) => {
      const begin = Number(button.dataset.begin), end = Number(button.dataset.end);
      if (begin <= state.frame && state.frame < end) button.setAttribute("aria-current", "step"); else button.removeAttribute("aria-current");
    });
    hideTip();
    question(frame);
    board(frame);
    detail(frame);
    // The list of candidates may grow, but it does not shrink again on the way: what is below it stays where it is.
    $("detail").style.minHeight = !["choice", "end"].includes(frame.kind) ? "" : `${Math.max(parseFloat($("detail").style.minHeight) || 0, $("detail").offsetHeight)}px`;
    if (frame.kind === "answer") $("results").open = true;
    if (state.frame === state.frames.length - 1) pause();
    if (focus) focus.focus();
  }

  function chapters() {
    const host = $("chapters");
    host.replaceChildren();
    state.frames.forEach((frame, at) => {
      const last = host.lastElementChild;
      if (last && last.dataset.chapter === frame.chapter) { last.dataset.end = at + 1; return; }
      const button = make("button", { type: "button", "data-chapter": frame.chapter, "data-begin": at, "data-end": at + 1 }, frame.chapter);
      button.addEventListener("click", () => { pause(); show(Number(button.dataset.begin)); });
      host.append(button);
    });
  }

  function open(number, searchNumber) {
    pause();
    state.method = number;
    const own = method();
    state.search = searchNumber ?? own.shown;
    state.frames = framesOf(own, search());
    $("slider").max = state.frames.length - 1;
    $("methods").querySelectorAll("button").forEach((button, at) => button.setAttribute("aria-pressed", at === number));
    const lengths = $("lengths"), select = lengths.querySelector("select");
    lengths.hidden = own.searches.length < 2;
    select.replaceChildren(...own.searches.map((one, at) => make("option", { value: at, selected: at === state.search },
      `${one.template.length ? plural(one.template.length, "word", "words") : "free"}${one.group ? `, group ${one.group + 1}` : ""}, ${plural(one.beams, "beam", "beams")}`)));
    signs();
    chapters();
    ranking();
    sure();
    steady();
    show(0);
  }

  // What the signs of the diagram mean, for this search.
  function signs() {
    const one = search(), looks = one && one.steps.some((step) => step.looks), joins = one && one.steps.some((step) => step.kind === "splices");
    const sign = (kind, says) => make("li", {}, make("i", { class: kind }), says);
    $("key").replaceChildren(
      sign("s-bold", "bold: path of the best one, or of the one you point at"),
      sign("s-gap", "dashed: missing words on it"),
      ...(looks ? [sign("s-pale", "pale: not yet chosen anew")] : []),
      ...(looks || joins ? [sign("s-join", "dotted: both sides meet")] : []));
  }

  // Give the text of a step the height of the longest one, so that the diagram below it stays where it is.
  function steady() {
    const host = $("told"), probe = make("div", { class: "told", "aria-hidden": true });
    host.style.minHeight = $("detail").style.minHeight = "";
    probe.append(...state.frames.slice(0, -1).map((frame) => { const [heading, said] = say(frame); return make("div", { class: "told" }, make("h2", {}, heading), make("p", {}, ...said)); }));
    host.after(probe);
    host.style.minHeight = `${Math.ceil(Math.max(...[...probe.children].map((one) => one.getBoundingClientRect().height)))}px`;
    probe.remove();
  }
  let width = window.innerWidth;
  window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; steady(); } });

  function question(frame) {
    const own = method(), one = search(), host = $("question");
    const best = frame.kind === "answer" ? own.hypotheses[0] : null;
    const template = (one && one.template) || [];
    if (best) host.replaceChildren(blanked(best));
    else if (!template.length) host.replaceChildren("Write a whole sentence.");
    else host.replaceChildren(...template.flatMap((known, at) => [at ? " " : "", typeof known === "number" ? word(known) : make("span", { class: "gap", title: "missing word" }, "?")]));
    $("intro").textContent = own.hypotheses.length ? `Which words belong in the blank? Two models have seen ${seen} and know such sentences. One reads from left to right, the other from right to left.` : own.stop;
  }

  function pause() {
    clearInterval(state.timer);
    state.timer = null;
    $("play").textContent = "▶ Play";
    $("play").setAttribute("aria-label", "Play");
  }
  function play() {
    if (state.frame === state.frames.length - 1) show(0);
    state.timer = setInterval(() => show(state.frame + 1), Number($("speed").value));
    $("play").textContent = "⏸ Pause";
    $("play").setAttribute("aria-label", "Pause");
  }
  const toggle = () => (state.timer ? pause() : play());
  const step = (by) => { pause(); show(state.frame + by); };

  // ------------------------------------------------------------------------------------------------- hints and keyboard

  function showTip(target) {
    const tip = $("tip"), box = target.getBoundingClientRect();
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    const own = tip.getBoundingClientRect();
    const above = box.top - own.height - 8;
    tip.style.left = `${Math.max(6, Math.min(window.innerWidth - own.width - 6, box.left + Math.min(box.width, 240) / 2 - own.width / 2))}px`;
    tip.style.top = `${above > 4 ? above : Math.min(window.innerHeight - own.height - 4, box.bottom + 8)}px`;
  }
  function hideTip() { $("tip").hidden = true; }
  for (const kind of ["mouseover", "focusin"]) document.addEventListener(kind, (event) => {
    const target = event.target.closest?.("[data-tip]");
    if (target) showTip(target); else hideTip();
  });
  document.addEventListener("focusout", hideTip);
  window.addEventListener("scroll", hideTip, { passive: true });

  // One stop of the Tab key for all words of the board; the arrow keys move between them.
  function roving(host) {
    const items = [...host.querySelectorAll("[data-x]")];
    if (items.length) items[0].setAttribute("tabindex", 0);
  }
  $("board").addEventListener("keydown", (event) => {
    const from = event.target.closest("[data-x]");
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!from || !move) return;
    event.preventDefault();
    event.stopPropagation();
    const x = Number(from.dataset.x), y = Number(from.dataset.y);
    const distance = (one) => {
      const dx = Number(one.dataset.x) - x, dy = Number(one.dataset.y) - y;
      const along = dx * move[0] + dy * move[1], across = Math.abs(dx * move[1]) + Math.abs(dy * move[0]);
      return along > 0 ? along + 3 * across : Infinity;
    };
    const to = [...$("board").querySelectorAll("[data-x]")].reduce((best, one) => (distance(one) < distance(best) ? one : best), from);
    if (to === from) return;
    from.setAttribute("tabindex", -1);
    to.setAttribute("tabindex", 0);
    to.focus();
    to.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target.closest?.("select, input") && event.key !== "Escape") return;
    const does = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: () => step(-Infinity), End: () => step(Infinity), Escape: hideTip }[event.key];
    if (does) { event.preventDefault(); does(); } else if (event.key === " " && !event.target.closest?.("button, summary")) { event.preventDefault(); toggle(); }
  });

  // --------------------------------------------------------------------------------------------------------- on paper

  function storyboard() {
    const host = $("storyboard");
    $("results").open = true;
    host.replaceChildren(make("h2", {}, "Storyboard"));
    const kept = state.frame;
    state.frames.forEach((frame, at) => {
      const [heading, said] = say(frame);
      const panel = make("div", { class: "panel" }, make("h3", {}, `${at + 1}. ${heading}`), make("p", {}, ...said));
      if (frame.kind === "choice") { const [, list] = candidates(frame); if (list) panel.append(list); }
      if (frame.kind === "splices") panel.append(spliceTable(frame));
      if (frame.kind === "draws") panel.append(chains(frame));
      panel.querySelectorAll("[tabindex]").forEach((one) => one.removeAttribute("tabindex"));
      host.append(panel);
    });
    state.frame = kept;
  }
  window.addEventListener("beforeprint", storyboard);
  window.addEventListener("afterprint", () => $("storyboard").replaceChildren());

  // ------------------------------------------------------------------------------------------------------------- begin

  data.methods.forEach((own, at) => {
    const button = make("button", { type: "button", "aria-pressed": false }, make("strong", {}, own.name), own.does ? make("small", {}, own.does) : null);
    button.addEventListener("click", () => open(at));
    $("methods").append(button);
  });
  $("methods").hidden = data.methods.length < 2;
  $("lengths").querySelector("select").addEventListener("change", (event) => open(state.method, Number(event.target.value)));
  $("first").addEventListener("click", () => step(-Infinity));
  $("back").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("play").addEventListener("click", toggle);
  $("speed").addEventListener("change", () => { if (state.timer) { pause(); play(); } });
  $("slider").addEventListener("input", (event) => { pause(); show(Number(event.target.value)); });
  $("to-terms").addEventListener("click", () => { $("glossary").open = true; });
  differences();
  open(Math.max(0, data.methods.findIndex((own) => own.name === "bscd")));
})();
