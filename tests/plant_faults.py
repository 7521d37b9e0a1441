"""Plant faults in a copy of the library, one at a time, and see the tests go red: `make faults`.

Prints a line per fault with the tests that caught it; exits with 1 if one survives. With words as arguments, only the
faults are planted whose names have one of the words. With --check, no fault is planted, and no test runs: it only says
whether today's sources have the places that the faults change.
"""

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST = 3600  # seconds that the tests may take with a fault
SWEEP, TREE, BSCD = "search/sweep.py", "search/tree.py", "search/bscd.py"
FINALISTS, FREE, PROBLEM = "search/finalists.py", "search/free.py", "search/holding.py"
FRONT, REQUEST, METHODS = "decoding.py", "request.py", "methods.py"
CHAINS, DIRECTION, PAIR = "search/chains.py", "search/direction.py", "search/pair.py"
ASKING, CYCLES, MODELS = "evaluation/asking.py", "evaluation/cycles.py", "scorers/pair.py"
SCORING, RECURRENT, CAPTIONER = "search/scoring.py", "scorers/recurrent.py", "models/captioner.py"
GIBBS, FILES, PRETRAINED = "search/gibbs.py", "models/files.py", "models/pretrained.py"
PROTOCOL, TRAINING, SCENES = "scorers/protocol.py", "training.py", "captions/scenes.py"
STATE, HUGGING_FACE, SOURCES = "scorers/state.py", "scorers/huggingface.py", "scorers/sources.py"
GENERATION = "generation.py"
READER, TORCH, COMBINED = "scorers/reader.py", "scorers/torch.py", "scorers/combined.py"
JOINT, BIRNN = "search/joint.py", "models/birnn.py"
TEMPLATE, TOKENIZERS, SPELLING = "template.py", "tokenizers.py", "spelling.py"
EXACT, LEAVES, SEARCH_ERRORS = "search/exact.py", "search/leaves.py", "evaluation/search_errors.py"
CONSTRAINTS, HOLDING, SPLICES = "constraints.py", "search/holding.py", "search/splices.py"
HALVING, BEHIND, RECORDER = "search/halving.py", "search/behind.py", "search/recorder.py"
TRACE, MARKUP = "show/trace_page.py", "markup.py"
READING = "search/reading.py"
POSTERIOR = "posterior.py"
BLANKS, BACKEND = "evaluation/blanks.py", "backend/base.py"
VOCABULARIES = "vocabularies.py"
LINES, TRANSLATOR, TRAIN = "lines.py", "models/translator.py", "cli/training.py"
PIXELS, CONTEXT_ENCODER, HOLES = (
    f"../examples/inpainting/{name}.py" for name in ("pixels", "context_encoder", "holes")
)
ALIGNMENT, RANKING, RANKERS = "models/alignment.py", "evaluation/ranking.py", "evaluation/rankers.py"
PARTS, GOING, DECODER = "datasets/parts.py", "datasets/going.py", "datasets/decoder.py"
ASKED, ANSWERED, DESCRIBED = "datasets/questions.py", "datasets/answers.py", "evaluation/answers.py"

# name: [(file, right, wrong), …]
FAULTS = {
    "look-ahead reversed": [(SWEEP, "self.ends[numbers] - 1 - places", "places - self.begins[numbers]")],
    "look-ahead zero": [(SWEEP, "None if view is None else view.at(turn)", "None")],
    "look-ahead of problems that have left their batch": [(SWEEP, "(rows == np.arange(begin, end)).all()", "True")],
    "look-ahead of the place before": [(SWEEP, "self.ends[numbers] - 1 - places", "self.ends[numbers] - 2 - places")],
    "g added into s": [
        (SWEEP, "picked[rows, ranks])", "values[rows, ranks] - weight * tree.offsets(beams[rows, which]))")
    ],
    "only the first opposite beam used": [
        (SWEEP, "beam_scores(opposite, beams, 1.0)", "beam_scores(opposite, beams[:, :1], 1.0)")
    ],
    "s' left out of g": [
        (
            SWEEP,
            "    scores, offsets = beam_scores(opposite, beams, 1.0)\n",
            "    scores, offsets = beam_scores(opposite, beams, 1.0)\n"
            "    beams = beams[:, : offsets.shape[1]]\n"
            "    offsets = offsets - np.where(beams >= 0, opposite.tree.log_probs[beams], 0)\n",
        )
    ],
    "weight left out of g": [
        (SWEEP, "max_over_beams(scores, offsets, weight)", "max_over_beams(scores, offsets, 1.0)")
    ],
    "prior added instead of subtracted": [(SWEEP, "steer - subtracted", "steer + subtracted")],
    "prior of the mirrored position": [
        (DIRECTION, "- 1 - place if self.reverse else place", "- 1 - place if not self.reverse else place")
    ],
    "beams not put in order at known words": [
        (SWEEP, "_in_order(passed, tree.log_probs) if by_sum else passed", "passed")
    ],
    "sets of allowed ids ignored": [(SWEEP, "    if turn.masked:", "    if False:")],
    "aligned scorers not kept in step": [
        (SWEEP, "np.zeros_like(begins) if aligned else begins", "begins"),
        (TREE, "self.depths[nodes] if self.aligned else np.minimum(", "np.minimum("),
    ],
    "duplicated hypotheses": [
        (BSCD, "if self._times[sentence] == 1:", "if True:"),
        (FINALISTS, "met.setdefault((one.item, one.template, one.words), one)", "met[id(one)] = one"),
        (FINALISTS, "self._best.get((one.item, one.words), number)", "number"),
    ],
    "one sentence for two choices of widths taken for one finalist": [
        (
            FINALISTS,
            "met.setdefault((one.item, one.template, one.words), one)",
            "met.setdefault((one.item, None, one.words), one)",
        )
    ],
    "END not scored": [(FINALISTS, "(end if one.finished else ())", "()")],
    "END scored by the id of START": [
        (FINALISTS, "(direction.tree.scorer.end_token,)", "(direction.tree.scorer.start_token,)")
    ],
    "finalists dropped too early": [
        (
            FINALISTS,
            "rank < keep[mine], self.scores[some] >= last[mine])",
            "rank < (keep[mine] + 1) // 2, self.scores[some] >= last[mine] + 3)",
        )
    ],
    "finalists read one after another": [(FINALISTS, "calls < patience)", "longest > 0)")],
    "finalists of all depths read as they come": [(FINALISTS, "some = some[depths == at]", "pass")],
    "finalists never dropped": [
        (
            FINALISTS,
            "~complete & np.where(patient[mine], rank < keep[mine], self.scores[some] >= last[mine])",
            "~complete",
        )
    ],
    "answers taken before those above are read": [
        (
            FINALISTS,
            "-self.scores[some], self.items[some]",
            "-self.scores[some], ~self.complete[some], self.items[some]",
        )
    ],
    "ties to the higher ids": [(FINALISTS, "self._order = np.argsort(", "self._order = -np.argsort(")],
    "length rule by words instead of words + 1": [("objective.py", "value / (words + 1)", "value / max(words, 1)")],
    "blank scope counts known words": [
        (FINALISTS, "np.flatnonzero(lane.codes < 0).tolist()", "list(range(len(lane.codes)))")
    ],
    "state rows mixed up in select": [
        (TREE, "select(state, self._indices(rows))", "select(state, self._indices(rows[::-1].copy()))")
    ],
    "state rows mixed up in the torch select": [
        (STATE, "torch.as_tensor(rows, device=leaf.device))", "torch.as_tensor(rows).flip(0))")
    ],
    "joined states not put back in order": [(TREE, "np.argsort(np.concatenate(owned))", "np.arange(len(nodes))")],
    "prefixes pushed again in every round": [(TREE, "unread = nodes[~self.known(nodes)]", "unread = nodes")],
    "scores of known words kept": [
        (TREE, "self._branches[nodes] & self.sweeping", "np.full(len(nodes), self.sweeping)")
    ],
    "states of known words kept": [
        (TREE, "self._states.let_go(parents[~self._branches[parents] & (self.depths[parents] >= 0)])", "pass")
    ],
    "views of larger arrays kept": [
        ("backend/numpy.py", "alone = scores.base is None and scores.flags.c_contiguous", "alone = True")
    ],
    "rows not counted": [(TREE, "self.rows += np.bincount(self.items[nodes], minlength=len(self.rows))", "pass")],
    "rows of several words not counted": [(TREE, "np.add.at(self.rows, self.items[firsts], lengths)", "pass")],
    "padding counted as rows": [
        (
            TREE,
            "np.add.at(self.rows, self.items[firsts], lengths)",
            "np.add.at(self.rows, self.items[firsts], max(lengths))",
        )
    ],
    "scores of padding taken for those of words": [(TREE, "if begins[-1] < len(scores):", "if False:")],
    "the state after padding kept": [(READING, "fitting = [] if row in kept else [one", "fitting = [one")],
    "a row that is the beginning of another read twice": [
        (READING, "if row in kept or other[: len(row)] != row]", "]")
    ],
    "padding beyond the positions of a model": [(READING, "and depth + one - 1 <= limits.tokens]", "]")],
    "words in between have the state of the last": [
        (TREE, "while self._states.block[self.parents[node]] < 0:", "while False:")
    ],
    "a state that is missing not read again": [(TREE, "self._reach(self.parents[unread])", "pass")],
    "terms after a call of the first row": [(READING, "walked.places[node]))", "0))")],
    "first round never called converged": [
        (
            BSCD,
            "    for search in going:\n        search.end_round(beam_size, splicing is not None)\n    going",
            "    going",
        )
    ],
    "cycles not seen": [(BSCD, "elif cycle and not gained:", "elif False:")],
    "sentences of later rounds not collected": [
        (BSCD, "self.met[-1].append(sentence)", "(self.met[-1] if self.rounds == 0 else []).append(sentence)")
    ],
    "the right-to-left sweep comes first": [
        (
            BSCD,
            "zip(directions, reversed(directions), strict=True)",
            "zip(reversed(directions), directions, strict=True)",
        )
    ],
    "free search stops at the first finished": [(FREE, "full = len(done) == beam_size", "full = bool(done)")],
    "END allowed before the shortest length": [(FREE, "or length < min_length]", "]")],
    "one word more than the longest length": [(FREE, "range(max_length + 1)", "range(max_length + 2)")],
    "terms of the backward model in reading order": [
        (PAIR, "own[:words][::-1] + own[words:] if direction.reverse else own", "own")
    ],
    "banned ids of one scorer only": [
        (REQUEST, "*map(never_of, scorers.values())", "*map(never_of, list(scorers.values())[:1])")
    ],
    "all -inf rows become NaN": [("backend/numpy.py", "peak[dead] = 0\n", "pass\n")],
    "minus infinity times zero": [
        (
            "backend/numpy.py",
            "np.multiply(scores[some], weight) if weight else np.zeros_like(scores[some])",
            "np.multiply(scores[some], weight)",
        )
    ],
    "known words opened twice": [(FINALISTS, "self.known <= [len(words)", "self.known >= [-len(words)")],
    "many short rows padded": [(READING, "> WORTH_A_CALL:", "> 2**62:")],
    "rows of several arrays out of order": [("backend/torch.py", "np.argsort(order)", "order")],
    "torch ties as they come": [("backend/torch.py", "if tied.any():", "if False:")],
    "scores of children asked for twice mixed up": [(TREE, "list(row_of.values())", "list(range(len(row_of)))")],
    "prefixes wanted twice pushed twice": [
        (
            TREE,
            "sorted(set(zip(self.items[unread].tolist(), unread.tolist(), strict=True)))",
            "sorted(zip(self.items[unread].tolist(), unread.tolist(), strict=True))",
        )
    ],
    "rows of one image not side by side": [(TREE, "[node for _, node in rows]", "sorted(node for _, node in rows)")],
    "terms not normalised": [(TREE, "terms = scores - self.normalisers[parents]", "terms = scores")],
    "scores let go with the first that needs them no more": [
        (TREE, "self._users[block] -= 1", "self._users[block] = 0")
    ],
    "scores that nobody needs kept": [(TREE, "if not self._users[block]:", "if False:")],
    "scores let go that sweeps ask for again": [(TREE, "if not self.asked_again:", "if True:")],
    "scores kept where the next call writes": [(TREE, "self.gather(stay, stays=True)", "self.gather(stay)")],
    "scores of another call picked": [
        (TREE, "np.searchsorted(several, blocks), rows, tokens)", "np.zeros_like(blocks), rows, tokens)")
    ],
    "scores kept when the sweeps are over": [(FINALISTS, "direction.tree.end_sweeps()", "pass")],
    "empty places of beams taken for a prefix": [
        (SWEEP, "*arrays[0].shape[1:]), behind)", "*arrays[0].shape[1:]), 0)")
    ],
    "beams that are not there searched": [(SWEEP, "offsets[~there] = NEVER", "pass")],
    "impossible beams pass known words": [
        (SWEEP, "return np.where(np.take_along_axis(sums, order, 1) > NEVER, beams, -1)", "return beams")
    ],
    "equal beams turned round at known words": [
        (
            SWEEP,
            'np.argsort(-sums, axis=1, kind="stable")',
            'sums.shape[1] - 1 - np.argsort(-sums[:, ::-1], axis=1, kind="stable")',
        )
    ],
    "look-ahead of another problem": [(SWEEP, "held_fixed[numbers, several", "held_fixed[numbers[::-1], several")],
    "only the best sentence of a sweep met": [(BSCD, "frontier[-1][frontier[-1] >= 0]", "frontier[-1][:1]")],
    "bounds that are no bounds by rounding": [(FINALISTS, "+ ROUNDING", "- ROUNDING")],
    "the worse of two choices of widths counts": [
        (FINALISTS, "if self.scores[number] > self.scores[best]", "if self.scores[number] < self.scores[best]")
    ],
    "one sentence of two choices of widths answered twice": [(FINALISTS, "self.scores[worse] = NEVER", "pass")],
    "the last answer of another item": [
        (
            FINALISTS,
            "last[mine[at_end]] = estimates[by_estimate[at_end]]",
            "last[:] = estimates[by_estimate[at_end]].max(initial=NEVER)",
        )
    ],
    "a prefix of two finalists read twice": [
        (FINALISTS, "some = np.flatnonzero(wanted[self._at] & (self.known < self.lengths))", "pass")
    ],
    "what the sweeps have read not used": [
        (FINALISTS, "(self.known < self.lengths) & self.tree.known", "(self.known < 0) & self.tree.known")
    ],
    "the end of long rows not searched": [("backend/torch.py", "if end < x.shape[-1]:", "if False:")],
    "places within the pieces of long rows": [
        ("backend/torch.py", "return values, index.gather(1, at)", "return values, at")
    ],
    "too few pieces of long rows": [
        ("backend/torch.py", "amax(dim=-1).topk(k, dim=-1)", "amax(dim=-1).topk((k + 1) // 2, dim=-1)")
    ],
    "sums written over scores": [
        ("backend/torch.py", 'self._buffer("total", scores.shape)', 'self._buffer("gathered", scores.shape)')
    ],
    "what stays gathered where the next call writes": [
        ("backend/torch.py", "device=self.device) if stays else", "device=self.device) if False else")
    ],
    "parts of a normaliser in another order": [
        ("backend/torch.py", "for piece in pieces]", "for piece in pieces[::-1]]")
    ],
    "banned ids of the first call": [
        ("backend/torch.py", "if self._banned is None or self._banned[0] != banned:", "if self._banned is None:")
    ],
    "the last rows left out of a piecewise sum": [
        (BACKEND, "range(0, rows, at_a_time)", "range(0, max(1, rows - at_a_time + 1), at_a_time)")
    ],
    "ties of many beams as they come": [
        ("backend/numpy.py", "np.flatnonzero(line >= np.partition(line, -k)[-k])", "np.argpartition(line, -k)[-k:]")
    ],
    "the state of the first layer for all": [
        (
            RECURRENT,
            "(memory[0][number], memory[1][number]) if is_lstm else memory[number]",
            "(memory[0][0], memory[1][0]) if is_lstm else memory[0]",
        )
    ],
    "cells of layers without biases": [(RECURRENT, "cell(below, own, *weights)", "cell(below, own, *weights[:2])")],
    "layers beside each other": [(RECURRENT, "cell(below, own, *weights)", "cell(inputs[:, 0], own, *weights)")],
    "no dropout between layers of a single step": [
        (RECURRENT, "layers.proj_size or (layers.training and layers.dropout)", "layers.proj_size")
    ],
    "projections left out of a single step": [
        (RECURRENT, "layers.proj_size or (layers.training and layers.dropout)", "layers.training and layers.dropout")
    ],
    "given sentences scored one word late": [
        (
            SCORING,
            "follow = backend.indices([tokens[number][place]",
            "follow = backend.indices([tokens[number][place - 1]",
        )
    ],
    "sentences that have ended are read on": [
        (SCORING, "state = scorer.select(state, backend.indices(going)) if going", "state = state if going")
    ],
    "the image seen at every step of the multimodal RNN": [
        (CAPTIONER, "state = self.hidden_to_hidden(hidden[-1])", "state = state + self.hidden_to_hidden(hidden[-1])")
    ],
    "several words read as if they were the first": [
        (
            READER,
            "hidden, state = self.read(self.tokens(tokens), state)",
            "hidden, state = self.read(self.tokens(tokens).flip(1), state)",
        )
    ],
    "sentences scored for other images": [
        (
            READER,
            "self._score(self.select(beginning, items[some]), sentences[some])",
            "self._score(self.select(beginning, items[some] * 0), sentences[some])",
        )
    ],
    "the end of a sentence not scored by captioners": [
        (READER, "for token in (*words, self.end_token)]", "for token in (*words, self.start_token)]")
    ],
    "what the image gives mixed up by select": [
        (STATE, "self.batch_axis = (batch_axis, 0)", "self.batch_axis = (batch_axis, None)"),
    ],
    "stacked cells read the words": [(RECURRENT, "memories[layer] = cell(below,", "memories[layer] = cell(inputs_at,")],
    "the state of the first cell for all": [(RECURRENT, "cell(below, memories[layer])", "cell(below, memories[0])")],
    "pictures in another order than vectors": [(CAPTIONER, "encoded.to(weight)", "encoded.flip(0).to(weight)")],
    "decoding in training mode": [(PROTOCOL, "            module.training = False\n", "            pass\n")],
    "left in eval mode": [(PROTOCOL, "            module.training = training\n", "            pass\n")],
    "gradients cut": [(SCORING, "return list(array)", "return list(array.detach())")],
    "swapped models not noticed": [(PROTOCOL, 'if {reads, direction} == {"forward", "backward"}:', "if False:")],
    "different words not noticed": [(MODELS, "None not in (one, other) and comparable and one != other:", "False:")],
    "files half written": [("files.py", "os.replace(temporary, path)", "path.write_bytes(b'half')")],
    "backward captioners trained forward": [
        (CAPTIONER, 'captions if self.direction == "forward" else [caption[::-1] for caption in captions]', "captions")
    ],
    "padding trained on": [(TRAINING, "real = targets != PAD", "real = targets != -1")],
    "an encoder left as it was": [
        (
            TRAINING,
            "[*encoder.parameters(), *detectors.parameters()],",
            "[*detectors.parameters()],",
        )
    ],
    "an encoder trained by one of two captioners": [
        (TRAINING, "context_b = context_f if", "context_b = context_f.detach() if")
    ],
    "places across taken for places down": [
        ("models/encoder.py", "part.amax(dim=(2, 3)), x, y]", "part.amax(dim=(2, 3)), y, x]")
    ],
    "files read where they lie": [("models/files.py", "file.get_tensor(key).clone()", "file.get_tensor(key)")],
    "only the first pictures encoded": [
        (CAPTIONER, "torch.split(prepared, PICTURES_AT_A_TIME)", "[prepared[:PICTURES_AT_A_TIME]]")
    ],
    "states of None let through": [
        (
            STATE,
            'if name == "condition":\n                return None',
            "if True:\n                return None",
        )
    ],
    "left called right": [(SCENES, '"left" if across < 0 else "right"', '"right" if across < 0 else "left"')],
    "blanks one place early": [
        ("captions/blanks.py", "(len(tokens) - width) // 2", "max(0, (len(tokens) - width) // 2 - 1)")
    ],
    "prefixes of probability 0 make draws NaN": [
        (
            CHAINS,
            "            scores = direction.tree.backend.numbers(direction.tree.gather(nodes))\n",
            "            scores = direction.tree.backend.numbers(direction.tree.gather(nodes))\n"
            "            tree = direction.tree\n"
            "            scores = scores + (tree.offsets(nodes) - tree.log_probs[nodes])[:, None]\n",
        )
    ],
    "weights left out of the product": [
        (CHAINS, "total[rows] += weights[rows, None] * scores", "total[rows] += scores")
    ],
    "both models begin a chain": [
        (CHAINS, "direction.weight if chain.complete else begins for chain", "direction.weight for chain")
    ],
    "prefixes forgotten in sentence order": [
        (CHAINS, "del path[direction.position(position, len(self.words)) + 1 :]", "del path[position + 1 :]")
    ],
    "banned ids drawn": [(GIBBS, "banned = list(directions[0].banned)", "banned: list[int] = []")],
    "scan never goes back": [(CHAINS, "self.blanks if sweep % 2 == 0 else self.blanks[::-1]", "self.blanks")],
    "chains begun a sweep early": [(GIBBS, "sweep % (sampling.restart_after + 1)", "sweep % sampling.restart_after")],
    "all chains draw the same": [(GIBBS, "(sampling.seed, number)) for", "(sampling.seed, 0)) for")],
    "answers of earlier sweeps forgotten": [
        (METHODS, "if not spent[item] for one in own]", "if False for one in own]")
    ],
    "sampling without a budget": [
        (METHODS, "rows=[result.rows_evaluated for result in results_of(self.rows)]", "rows=None")
    ],
    "one direction saved twice": [
        (FILES, "FORWARD: model_f, BACKWARD: model_b,", "FORWARD: model_f, BACKWARD: model_f,")
    ],
    "features not standardised": [(CAPTIONER, "(context - self.feature_mean) / self.feature_scale", "context")],
    "the order of a resumed run begun anew": [(TRAINING, 'self._epoch = _Begun(**state["epoch"])', "pass")],
    "the optimizer of a resumed run begun anew": [
        (TRAINING, 'self._descent.optimizer.load_state_dict(state["optimizer"])', "pass")
    ],
    "dropout of a resumed run begun anew": [(TRAINING, 'torch.set_rng_state(state["random"])', "pass")],
    "other data not noticed": [(TRAINING, '"the training data": self._training.fingerprint(),', "")],
    "unclipped": [(TRAINING, "if self._recipe.clip_value is not None:", "if False:")],
    "the worst epoch taken for the best": [(TRAINING, "return min(self.history", "return max(self.history")],
    "UNK asked for": [(BLANKS, "if UNK in words[begin:end]:", "if False:")],
    "the true width told": [(BLANKS, "Gap(*widths)", "Gap(end - begin, end - begin)")],
    "captions resampled, not images": [
        ("evaluation/report.py", "images = [question.source.name for", "images = [id(question) for")
    ],
    "differences the wrong way round": [
        ("evaluation/report.py", "paired_difference(ours, theirs, images)", "paired_difference(theirs, ours, images)")
    ],
    "rows of the rerank taken for all": [
        ("evaluation/report.py", "[float(result.rows_evaluated) for result in results]", "[0.0 for result in results]")
    ],
    "the right words anywhere": [("evaluation/report.py", "sum(a == b for a, b in", "sum(a in truth for a, b in")],
    "pictures squeezed instead of cut": [
        (PRETRAINED, "resized.crop((left, top, left + CROP, top + CROP))", "resized.resize((CROP, CROP))")
    ],
    "every caption a group of its own": [
        (
            "evaluation/bootstrap.py",
            "    numbers = {group:",
            "    groups = range(len(groups))\n    numbers = {group:",
        )
    ],
    "METEOR's chunks counted where there is no penalty": [
        ("evaluation/metrics.py", "0.0 if same else chunks", "chunks")
    ],
    "BLEU of the wrong length": [("evaluation/metrics.py", 'counts["reflen"]]', 'counts["testlen"]]')],
    "vectors joined by ids that are names elsewhere": [
        ("captions/features.py", "max(rules, key=", "max(rules[::-1], key=")
    ],
    "all rounds whatever is allowed": [("evaluation/curves.py", "BSCD(most)", "BSCD(rounds)")],
    "<unk> for known words": [
        (
            BLANKS,
            "[*self.words[: self.blank.start], *filled,",
            "[*found.text.split()[: self.blank.start], *filled,",
        )
    ],
    "checkpoints of another device not read": [(TRAINING, 'map_location="cpu", ', "")],
    "devices not tried": [("cli/common.py", "torch.ones(1, device=device).add(1).item()", "pass")],
    "a diverged training goes on": [(TRAINING, "if not of_batch.isfinite().all():", "if False:")],
    "a cache is not copied": [(STATE, "        return copy.deepcopy(cache)\n", "        return cache\n")],
    "a growing cache is not copied": [(STATE, "[copy.copy(layer) for layer in cache.layers]", "cache.layers")],
    "a written cache shares its tensors": [(STATE, "type(layer) in growing", "True")],
    "a cache reordered in place": [(STATE, "new = _copy(self.cache)", "new = self.cache")],
    "what a cache's method returns is dropped": [(STATE, "new if returned is None else returned", "new")],
    "cross-attention not joined": [
        (STATE, "in zip(*map(_parts, caches), strict=True)", "in [*zip(*map(_parts, caches), strict=True)][:1]")
    ],
    "rows of a cache selected twice": [(STATE, "rows if self.selected is None else self.selected[rows]", "rows")],
    "a condition expanded for other rows": [
        (STATE, "if not self.last or self.last[0] != self.images:", "if not self.last:")
    ],
    "a condition not selected": [
        (STATE, "[self.images[row] for row in torch.as_tensor(rows).tolist()]", "self.images")
    ],
    "buffers not put back": [(TORCH, "            self._put(before)\n", "            pass\n")],
    "buffers of a state counted in place": [(TORCH, "buffer.clone() for", "buffer for")],
    "BLIP ends with eos": [(HUGGING_FACE, "ends = separator  #", "pass  #")],
    "START read where there is none": [
        (HUGGING_FACE, "not self._attends and self._reads_start:", "not self._attends:")
    ],
    "padding of a source is no padding": [(SOURCES, "for mask in own), 0, left)", "for mask in own), 1, left)")],
    "prompts filled on the right": [(HUGGING_FACE, "left=not self._attends,", "left=False,")],
    "sources and words of beams not selected": [
        (HUGGING_FACE, "([own[row] for row in numbers] for own in", "(own for own in")
    ],
    "words of joined rows in another order": [
        (HUGGING_FACE, "[words for one in several for", "[words for one in several[::-1] for")
    ],
    "shorter caches padded on the right": [(STATE, "pad(one, (0, 0, more, 0))", "pad(one, (0, 0, 0, more))")],
    "padding of a cache is read": [
        (HUGGING_FACE, "there.long() if mask is None", "torch.ones_like(places) if mask is None")
    ],
    "prompts of shorter rows not moved": [(HUGGING_FACE, "mask.gather(1, places) * there", "mask")],
    "positions count padding": [
        (HUGGING_FACE, "positions.expand(len(places), -1).gather(1, places)", "positions.expand(len(places), -1)")
    ],
    "decoders count padding": [
        (HUGGING_FACE, "_positioned(self._tables, positions[:, -length:])", "_positioned([], positions)")
    ],
    "rotations of the longest row": [(HUGGING_FACE, "or self._is_stretched", "")],
    "padding that no row needs is kept": [(STATE, "new.get_seq_length() > tokens:", "False:")],
    "START and words in one call": [(TREE, "np.minimum(self.depths[nodes], 1)", "np.zeros_like(nodes)")],
    "caches of a window are padded": [(HUGGING_FACE, "type(layer) is not DynamicLayer for", "False for")],
    "inputs expanded for other rows": [
        (HUGGING_FACE, "if not self.last or self.last[0] != self.sources:", "if not self.last:")
    ],
    "keys and values of other sources": [(HUGGING_FACE, "beams.sources != list(range(self.count)):", "False:")],
    "beams of a source in another order": [(HUGGING_FACE, "rows if self.regular else rows[self.back]", "rows")],
    "a forced token is not read": [(HUGGING_FACE, "if config.forced_bos_token_id is not None and", "if False and")],
    "a forced token in a template": [(HUGGING_FACE, "frozenset() if forced is None else {int(forced)}", "frozenset()")],
    "one END of several": [(HUGGING_FACE, "if len(self._ends) > 1:", "if False:")],
    "words that must not be first": [(HUGGING_FACE, "if self._not_first else logits", "if False else logits")],
    "RoBERTa's positions from 0 on": [
        (HUGGING_FACE, "inputs[POSITIONS] + self._first", "inputs[POSITIONS] + 0 * self._first")
    ],
    "a learnt prompt is left out": [(PROTOCOL, "if model.active_peft_config.is_prompt_learning:", "if False:")],
    "generate's options forgotten": [(GENERATION, "if config.force_words_ids:", "if False:")],
    "generate's lengths without END": [(GENERATION, "config.max_length - prompt - 1", "config.max_length - prompt")],
    "all rows in one call": [(TREE, "most = self.rows_per_call or max(rows, 1)", "most = max(rows, 1)")],
    "END takes the place of an open beam": [(FREE, "if len(some) and length < max_length:", "if False:")],
    "ids beyond the tokenizer are words": [
        (TOKENIZERS, "frozenset(range(len(vocabulary), vocab_size))", "frozenset()")
    ],
    "a tokenizer's special tokens are words": [
        (REQUEST, "no_words(vocabulary, vocab_size).union(", "frozenset().union(")
    ],
    "state of get_logprobs_state on axis 0": [
        (TORCH, "batch_axis=1,\n            condition=tuple", "batch_axis=0,\n            condition=tuple")
    ],
    "one token too many for a model": [
        (REQUEST, "for name, context in contexts.items()) - 1", "for name, context in contexts.items())")
    ],
    "captions written beyond the positions": [(REQUEST, "int(min(most, most_words))", "most")],
    "weights of an ensemble ignored": [
        (
            COMBINED,
            "[math.log(weight) if weight else -math.inf for weight in self.weights]",
            "[-math.log(len(self.weights))] * len(self.weights)",
        )
    ],
    "ids mapped the wrong way": [
        (
            COMBINED,
            "return scores[..., self._index_like(scores)], state",
            "return scores[..., self._index_like(scores).argsort()], state",
        )
    ],
    "the hook's prefixes lack the last word": [
        (
            COMBINED,
            "return self._hooked(prefixes, scores), _Adjusted(inner, prefixes)",
            "return self._hooked(prefixes[:, :-1], scores), _Adjusted(inner, prefixes)",
        )
    ],
    "temperature multiplies": [
        (COMBINED, "return log_probs / self.temperature", "return log_probs * self.temperature")
    ],
    "pieces encoded without what stands before": [
        (TOKENIZERS, "for anchor, head in self._heads() if behind else", "for anchor, head in [] if behind else")
    ],
    "white space before a blank kept": [
        (TOKENIZERS, "        shortest = len(piece.rstrip())\n", "        shortest = len(piece)\n")
    ],
    "words continue with words": [
        (TEMPLATE, "TOKENS_PER_WORD - 1 if classes.go_on else 0, classes.go_on)", "TOKENS_PER_WORD - 1, classes.begin)")
    ],
    "known text decoded": [(SPELLING, "        self.text += piece\n", "        self.text += self._decoded(width)\n")],
    "a bound too tight": [(LEAVES, "keys = self.leaves.key[self.open]", "keys = self.leaves.key[self.open] - 0.5")],
    "words not read yet bound nothing": [(LEAVES, "best[:] = keys[~there].max(initial=NEVER)", "pass")],
    "blanks without a word bound everything": [
        (LEAVES, "words], top[0].max()).min(axis=1)", "words], NEVER).min(axis=1)")
    ],
    "proved when the best cannot be bettered": [
        (
            EXACT,
            "accepted[self.keep - 1] if len(accepted) >= self.keep else NEVER",
            "accepted[0] if accepted else NEVER",
        )
    ],
    "the rest forgotten": [(LEAVES, "np.flatnonzero(left.any(axis=1))", "np.zeros(0, dtype=np.int64)")],
    "the rest taken for complete": [
        (LEAVES, "(self.places(leaves) >= self.last) & ~self.is_rest(leaves)", "self.places(leaves) >= self.last")
    ],
    "ended with one side's full leaves": [
        (EXACT, "max(of_open, *(float(side.full_bounds.max(initial=NEVER)) for side in self.sides))", "of_open")
    ],
    "what a full leaf waits for is dropped": [
        (LEAVES, "        keep[wanted[0][mine] - new[0], wanted[1][mine]] = True\n", "")
    ],
    "weights left out of keys": [
        (LEAVES, "self._weights[places, None] * (scores", "(self._weights[places, None] > 0) * (scores")
    ],
    "terms that do not count": [
        (LEAVES, "self._weights[counted] = ranking.weights[direction]", "self._weights[:] = ranking.weights[direction]")
    ],
    "banned ids proved": [(LEAVES, "self._allowed[:, list(direction.banned)] = False", "pass")],
    "the incumbent of another length": [("objective.py", "else score - float(rule) * words", "else score")],
    "an interruption comes too late": [(EXACT, "    except KeyboardInterrupt:\n", "    except ZeroDivisionError:\n")],
    "rows without end": [(EXACT, "elif late or self.coupling.rows(item) >= self.budget.share:", "elif late:")],
    "seconds without end": [
        (EXACT, "self.seconds is not None and time.perf_counter() >= self.began + self.seconds", "False")
    ],
    "a bound below what is left": [
        (EXACT, "proof.upper = max(uppers, default=NEVER)", "proof.upper = min(uppers, default=NEVER)")
    ],
    "mass of the rest: its best word only": [
        (LEAVES, "log_sums(rest_keys),", "rest_keys.max(axis=1),"),
        (LEAVES, "log_sums(rest_bounds),", "rest_bounds.max(axis=1),"),
    ],
    "mass of words without a leaf left out": [(LEAVES, "self.drop(bounds[lost])", "pass")],
    "mass of dropped open leaves left out": [(EXACT, "        side.drop(masses[~alive])\n", "")],
    "mass of dropped full leaves left out": [(EXACT, "        side.drop(bounds[~alive & ~done])\n", "")],
    "mass of full leaves left out": [(EXACT, " + [float(log_sums(side.full_bounds)) for side in self.sides]", "")],
    "mass: the incumbent drops leaves": [(EXACT, "return needed if self._drops else NEVER", "return needed")],
    "mass: of the empty blank left out": [(EXACT, "proof.unknown[problem.template] = bound", "pass")],
    "mass: not asked for": [(EXACT, "(self.mass is None or proof.holds(self.mass))", "True")],
    "mass: an unproved best sentence": [(EXACT, "upper if above(upper, needed) else NEVER", "NEVER")],
    "mass: weights below one certified": [("methods.py", "weight >= 1 or weight == 0", "True")],
    "posterior: words of all lengths": [(POSTERIOR, "if len(words) == length}", "if len(words) >= length}")],
    "posterior: words without what is unknown": [
        (POSTERIOR, "total_same, unknown_same, unknown_same", "total_same, unknown_same")
    ],
    "posterior: rejected by constraints": [("decoding.py", "any(one.broken for one in answers)", "False")],
    "posterior: with hooks": [("decoding.py", "request.demands.hooks or request", "request")],
    "an unproved sentence taken for the best": [(SEARCH_ERRORS, "if exact.gap == 0 else", "if True else")],
    "restval left out": [("captions/datasets.py", 'of = "train" if of == "restval" else of', "pass")],
    "joint: no normaliser of a pair": [(BACKEND, "pairs -= log_totals[:, :, other, None]", "pass")],
    "joint: one normaliser for every b": [
        (BACKEND, "pairs -= log_totals[:, :, other, None]", "pairs -= log_totals[:, :1, other, None]")
    ],
    "joint: the same b' for every b": [(JOINT, "            fixed[rows, other],\n", "            fixed[rows, 0],\n")],
    "joint: running score of the half alone": [
        (
            JOINT,
            "running[rows, ranks] = found.running",
            "running[rows, ranks] = tree.log_probs[chosen[rows, ranks]]",
        )
    ],
    "joint: the look-ahead stays in the running score": [
        (JOINT, "picked[rows, ranks] - fixed_scores[rows, other]", "picked[rows, ranks]")
    ],
    "joint: look-ahead of the place before": [
        (
            JOINT,
            "(held_fixed[numbers, turn.behind], fixed_scores[numbers, turn.behind])",
            "tuple(one[numbers, np.maximum(turn.behind - 1, 0)] for one in (held_fixed, fixed_scores))",
        )
    ],
    "joint: running scores lost at known words": [
        (
            JOINT,
            "np.where(passed, scores[:, place - 1], scores[:, place])",
            "np.where(passed, 0.0, scores[:, place])",
        )
    ],
    "joint: contexts no part of what tells beams apart": [
        (JOINT, "return self.nodes.tobytes() + self.contexts.tobytes()", "return self.nodes.tobytes()")
    ],
    "joint: left and right exchanged in combine": [(JOINT, "rows if moving is self.forward else rows[::-1]", "rows")],
    "joint: the right side of the next position": [
        (JOINT, "right[owner, lengths[owner] - 1 - place]", "right[owner, np.maximum(lengths[owner] - 2 - place, 0)]")
    ],
    "joint: all words count with blanks alone": [(JOINT, "if everything or one.template.undecided(at)", "if True")],
    "joint: the first choice of widths counts": [
        (FINALISTS, "best.setdefault(one.words, one)", "best[one.words] = one")
    ],
    "joint: Gibbs goes on from the forward half alone": [
        (
            JOINT,
            "drawn[complete] = self.forward.tree.backend.numbers(self.log_probs(left, right))",
            "drawn[complete] = product([self.forward], whole)",
        )
    ],
    "joint: combine's scores not checked": [(JOINT, "for row in faulty:", "for row in []:")],
    "joint: states of words read in one call asked for": [(TREE, "is not None and not every_state", "is not None")],
    "joint: prefixes of scored items kept": [(JOINT, "direction.tree.forget(range(begin, item + 1))", "pass")],
    "products that underflow left as they are": [
        (BACKEND, "xp.where(totals < vocab * info.tiny / info.eps)", "xp.where(totals < 0)")
    ],
    "one peak for both sides": [
        (BACKEND, "one_peak[:, :, None] + two_peak[:, None]", "one_peak[:, :, None]"),
    ],
    "the last of equal others": [(BACKEND, "which[reach > best] = other", "which[reach >= best] = other")],
    "joint: half alone ranked by the whole": [
        (
            JOINT,
            "        self._score(answers, forget=True)\n",
            "        self._score(answers, forget=True)\n"
            "        for one in itertools.chain(*answers):\n"
            "            one.score = self.ranking.score(one)\n",
        ),
        (JOINT, "import functools\n", "import functools\nimport itertools\n"),
    ],
    "evaluation: Gibbs without its budget": [(ASKING, "Gibbs(rows=BSCD(max_rounds))", "Gibbs()")],
    "joint: widths compared by the rule of a pair": [(JOINT, 'if objective.length != "auto":', "if True:")],
    "joint: the fewest words always win": [(JOINT, '        return "average"\n', '        return "none"\n')],
    "joint: weights let pass": [(REQUEST, "models.kind is JointCoupling and set(weights.values()) != {1}", "False")],
    "cycles: one way twice": [(CYCLES, "float(np.sum(way) - np.sum(back))", "float(np.sum(way) - np.sum(way))")],
    "cycles: a' not from p(a' | b)": [
        (CYCLES, "at_j_new = conditionals(j, i, new_a)", "at_j_new = conditionals(j, i, a)")
    ],
    "cycles: the word that stands there drawn": [(CYCLES, "chances[[*never, taken]] = 0", "chances[[*never]] = 0")],
    "birnn: a half reads the word itself": [(BIRNN, "behind = [length - 1 - at for", "behind = [length - at for")],
    "birnn: one half alone": [(BIRNN, "return logits[0] + logits[1]", "return logits[0]")],
    "birnn: its loss over every caption": [
        (
            TRAINING,
            'return nn.functional.cross_entropy(logits, targets, reduction="sum")[None], len(targets)',
            'return nn.functional.cross_entropy(logits, targets, reduction="sum")[None], len(captions)',
        )
    ],
    "birnn: loaded as a pair": [
        (
            FILES,
            "next((kind for kind in kinds if kind in metadata), None)",
            "next((kind for kind in KINDS if kind in metadata), None)",
        )
    ],
    "answers of a pair without the Bi-RNN's score": [(ASKING, "if pairs and joints:", "if False:")],
    "BSCD of a Bi-RNN compared with nobody": [("evaluation/report.py", '("bscd", "birnn-bscd")', '("bscd",)')],
    "the model itself left in training mode": [
        (REQUEST, "[*self.scorers.values(), self.given]", "list(self.scorers.values())")
    ],
    "splices: left out": [(BSCD, "coupling.splicing if splices and max_rounds else None", "None")],
    "splices: of the first beams alone": [
        (
            BSCD,
            "            _splice(splicing, going, beam_size, (beam_size + 1) // 2, prior, recorder)  # line 4a\n",
            "            pass\n",
        )
    ],
    "splices: not of the best sentences": [
        (SPLICES, "sentences if direction.weight else [", "sentences if False else [")
    ],
    "splices: read twice": [(BSCD, "                self._tried.add(words)\n", "")],
    "splices: half of B read to their ends at first": [
        (
            BSCD,
            "_splice(splicing, going, beam_size, beam_size, prior, recorder)",
            "_splice(splicing, going, beam_size, (beam_size + 1) // 2, prior, recorder)",
        )
    ],
    "splices: few end the search of models that disagree": [(BSCD, "(agreed or not gained)", "True")],
    "splices: few new ones do not end the search": [(BSCD, "few = self._new <= beam_size", "few = False")],
    "splices: ends without a sentence that can be returned": [
        (BSCD, "any(one.score > NEVER for one in self.best)", "self.best")
    ],
    "splices: one round without a better sentence ends the search": [(BSCD, "PATIENCE = 2", "PATIENCE = 1")],
    "halving: the estimate of what lacks left out": [
        (HALVING, "known.sums[some] + mean[numbers] * known.lacking[some]", "known.sums[some]")
    ],
    "halving: half goes on": [(HALVING, "FACTOR = 3", "FACTOR = 2")],
    "halving: the worst go on": [(HALVING, "np.lexsort((-scores, self.rejected", "np.lexsort((scores, self.rejected")],
    "halving: terms that do not count": [(HALVING, " & self._counted[some]\n        with", "\n        with")],
    "halving: what words have paid forgotten": [
        (HALVING, "np.where(pays, splices.values - splices.sums, 0.0)", "np.zeros(len(pays))")
    ],
    "halving: the best sentences pay nothing": [
        (HALVING, "        self._paid[done] = [self._pay(one) for one in done.tolist()]\n", "")
    ],
    "halving: a forbidden sentence is spliced no more": [
        (HALVING, "counts[numbers]) & possible]", "counts[numbers]) & (scores > NEVER)]")
    ],
    "joint: splices left out": [(JOINT, "return JointSplicing(self.directions, self.ranking, self)", "return None")],
    "joint: best sentences of no running score": [(JOINT, "scores[numbers, read + 1, columns] = terms", "pass")],
    "joint: running scores of best sentences one place late": [
        (JOINT, "scores[numbers, read + 1, columns] = terms", "scores[numbers, read, columns] = terms")
    ],
    "joint: splices of the place before": [
        (
            JOINT,
            "theirs[numbers, turn.behind], their_scores[numbers, turn.behind]",
            "tuple(one[numbers, np.maximum(turn.behind - 1, 0)] for one in (theirs, their_scores))",
        )
    ],
    "joint: the suffix pays nothing in a splice's sum": [
        (JOINT, "words.values, words.running + words.behind)", "words.values, words.values)")
    ],
    "joint: a term known to one half alone": [
        (JOINT, "(at >= since[:, None]) & (at < until[:, None])", "(at < until[:, None])")
    ],
    "joint: words behind the last blank are not read": [
        (JOINT, "[: max(own) + 1]", "[: direction.lane(asked[0].template).end]")
    ],
    "joint: the terms next to the join are not looked at": [
        (JOINT, "left.known[some]\n", "np.maximum(left.known[some] - 1, since + 1)\n")
    ],
    "exact: no wider beams": [("methods.py", "2 * coupling.rows(item) <= budget.share}", "False}")],
    "splices: the first beam behind": [(BEHIND, "best = sums.argmax(axis=1)", "best = 0 * rows")],
    "splices: of the place before": [(SPLICES, "theirs[numbers, turn.behind]", "theirs[numbers, turn.behind - 1]")],
    "splices: the best alone": [(BSCD, "AT_EACH_POSITION = 4", "AT_EACH_POSITION = 1")],
    "splices: what lies behind stands as it was read": [(HALVING, "*suffix[-2::-1])", "*suffix[:-1])")],
    "splices: that break constraints": [
        (BSCD, "if self.problem.held is None or not self.problem.held.broken(words):", "if True:")
    ],
    "constraints: n-grams that overlap": [
        (CONSTRAINTS, "if other != begin and", "if abs(other - begin) >= self.size and")
    ],
    "constraints: n-grams of what was chosen alone": [
        (CONSTRAINTS, "range(max(0, at - self.size + 1), min(at, len(words) - self.size) + 1)", "range(at, at + 1)")
    ],
    "constraints: known words appear, too": [(CONSTRAINTS, "if template.undecided(at)}", "}")],
    "constraints: any place is good for a word": [
        (CONSTRAINTS, "(position is BLANK or (isinstance(position, frozenset) and token in position))", "True")
    ],
    "constraints: positions from the beginning alone": [
        (CONSTRAINTS, "at == self.position or at == len(template) + self.position", "at == self.position")
    ],
    "constraints: a word count of the whole sentence": [
        (CONSTRAINTS, "self.least <= template.blank_count <=", "self.least <= len(template) <=")
    ],
    "constraints: a clash names all": [(CONSTRAINTS, "            needed = fewer\n", "            pass\n")],
    "constraints: what is impossible is not noticed": [
        (CONSTRAINTS, "            return False\n    return True\n", "            return True\n    return True\n")
    ],
    "constraints: not held in the sweeps": [
        (PROBLEM, "        None if problem.held is None else Hold(", "        None and Hold(")
    ],
    "constraints: banks left out": [(SWEEP, "if restraint.banks is None:", "if True:")],
    "constraints: banks have the whole beam": [
        (SWEEP, "share = beam_size // (1 + banks.max(axis=(1, 2)))", "share = np.full(len(banks), beam_size)")
    ],
    "constraints: banks shared out over a batch": [
        (SWEEP, "banks.max(axis=(1, 2))", "np.full(len(banks), banks.max())")
    ],
    "constraints: what the other side has paid is not looked at": [
        (SWEEP, "offsets = offsets + restraint.shift[:, :width] / weight", "pass")
    ],
    "constraints: what words cost is looked at twice": [(HOLDING, "binding=False, costs=False)", "binding=False)")],
    "constraints: sampling pays nothing": [(GIBBS, "log_probs[word] -= cost", "pass")],
    "constraints: free writing pays nothing": [
        (HOLDING, "costs = () if reverse else self._costs(item, template)", "costs = ()")
    ],
    "constraints: splices of what has not paid": [(BEHIND, "if holds and direction.weight:", "if False:")],
    "constraints: sentences of other lengths are over again": [(CONSTRAINTS, "if len(one) == len(words)]", "]")],
    "constraints: words that must appear one by one": [
        (
            CONSTRAINTS,
            "[MustAppear(sorted(words))] if words else []",
            "[one for one in constraints if isinstance(one, MustAppear)]",
        )
    ],
    "constraints: words of the beginning within a sentence": [(CONSTRAINTS, "return (inside,)", "return (first,)")],
    "constraints: words that begin a sentence are not banned": [
        (CONSTRAINTS, "return inside, first", "return (inside,)")
    ],
    "constraints: groups that break them come in front": [
        (FRONT, "sound or hypotheses.values(), key", "hypotheses.values(), key")
    ],
    "constraints: a group that is left nothing disproves": [(EXACT, "coupling.demands.avoids(own[0].item)", "False")],
    "constraints: the joint look-ahead pays nothing": [
        (JOINT, "fixed_scores = fixed_scores + theirs.shift", "pass"),
    ],
    "constraints: what a joint pair pays is kept in its score": [
        (JOINT, "terms -= theirs.extra[rows, other, tokens]", "pass"),
    ],
    "a broken answer bounds what satisfies": [
        (METHODS, "if not own.broken and not own.rejected)", "if not own.rejected)")
    ],
    "a broken answer taken for the best": [
        ("result.py", "if not self.hypotheses or self.best.broken:", "if not self.hypotheses:")
    ],
    "a bound without the length rule": [
        (
            EXACT,
            "apply_length_rule(search.upper, len(search.problem.template), self.coupling.rules[item])",
            "search.upper",
        )
    ],
    "a bound of 0 before the first look": [
        (
            EXACT,
            "highest = apply_length_rule(0.0, len(problem.template), coupling.rules[problem.item])",
            "highest = 0.0",
        )
    ],
    "an interruption that the next part does not see": [
        (
            EXACT,
            "    except KeyboardInterrupt:\n        budget.interrupted = True\n",
            "    except KeyboardInterrupt:\n        pass\n",
        )
    ],
    "an interruption that takes what is done": [(METHODS, "if not budget.begun:", "if True:")],
    "search errors: broken sentences let pass": [(SEARCH_ERRORS, " and not best.broken:", ":")],
    "search errors: widths compared by J": [(SEARCH_ERRORS, "exact.length_rule)", '"none")')],
    "joint: a half alone ranks widths as both do": [(METHODS, "request.length_rules(1.0)", "request.rules")],
    "joint: combine left in training mode": [
        ("scorers/joint.py", 'owner.modules() if hasattr(owner, "modules") else iter(())', "iter(())")
    ],
    "joint: products that lose digits": [(BACKEND, "totals < vocab * info.tiny / info.eps", "totals == 0")],
    "joint: sentences of the wrong block": [
        (JOINT, "self.log_probs(left[rows], right[rows])", "self.log_probs(left[rows], right[: len(left[rows])])")
    ],
    "cycles: those that cannot be gone count": [
        (CYCLES, "if -math.inf not in way or -math.inf not in back:", "if True:")
    ],
    "birnn: features of one half brought to scale": [
        (
            BIRNN,
            "for half in (self.forward_half, self.backward_half):\n            half.standardise",
            "for half in (self.forward_half,):\n            half.standardise",
        )
    ],
    "the item of a part named in an error": [
        (TREE, "int(self.encoded.numbers[self.items[node]])", "int(self.items[node])")
    ],
    "constraints: not loosened in a dead end": [
        (HOLDING, "if hold and hold.binding and chosen[row, 0] < 0}", "if False}")
    ],
    "constraints: broken answers are not told": [(HOLDING, "if not one.satisfied(words, template))", "if False)")],
    "constraints: what hooks change is not carried": [
        (HOLDING, "before.changes + paid.changes", "paid.changes"),
    ],
    "constraints: what words cost is not carried": [(HOLDING, "before.cost + paid.cost", "paid.cost")],
    "constraints: hooks of one direction are ranked": [
        (HOLDING, "weights.items() if self.hooks else ()", "list(weights.items())[:1] if self.hooks else ()")
    ],
    "constraints: hooks twice in a softmax of both": [
        (HOLDING, "one.penalty += weight * self.share * change", "one.penalty += weight * change")
    ],
    "constraints: penalty left out of the score": [
        (FINALISTS, "self.value(one) + (one.penalty or 0.0)", "self.value(one)")
    ],
    "constraints: not held in a proof": [(LEAVES, "if self._held is not None:", "if False:")],
    "constraints: costs on both sides of a proof": [(EXACT, "ranking, number == 0)", "ranking, True)")],
    "constraints: broken answers are incumbents": [(EXACT, "[one for one in own if not one.broken]", "list(own)")],
    "constraints: hooks that raise scores in a proof": [
        (HOLDING, "if (given > scores + ROUNDING).any():", "if False:")
    ],
    "constraints: not held by sampling": [(GIBBS, "held.ruled_out(others, at).flags(len(log_probs))", "False")],
    "constraints: a free caption may end at any time": [
        (HOLDING, "ends if held.may_end(direction.words_in_reading_order(read)) else NEVER", "ends")
    ],
    "constraints: all groups find the same": [(REQUEST, "avoided=avoided if any(avoided) else ()", "avoided=()")],
    "constraints: parts of a batch avoid others' sentences": [
        (REQUEST, "self.demands.avoided[some]", "self.demands.avoided[: len(self.items[some])]")
    ],
    "command line: the terms are not the pair's": [
        (ASKING, "getattr(one, name) for name in OF_PAIR", "getattr(other, name) for name in OF_PAIR")
    ],
    "command line: only the best has both scores": [("cli/decoding.py", "top=self.beam_size", "top=1")],
    "command line: rows not handed on": [
        ("cli/decoding.py", "self.max_rounds, self.exact_rows or 1", "self.max_rounds, 1")
    ],
    "command line: proved whatever the bound is": [("cli/decoding.py", "elif result.gap == 0:", "elif True:")],
    "command line: a proof asked of a Bi-RNN": [
        ("cli/common.py", "birnn is not None and model is None:\n        raise", "False:\n        raise")
    ],
    "constraints: joint sweeps do not hold them": [
        (
            JOINT,
            "                turn.holds,\n                noting,\n            )\n",
            "                [],\n                noting,\n            )\n",
        )
    ],
    "evaluation: a Bi-RNN's methods ask the pair": [(ASKING, "(birnn, methods[own])", "(pair, methods[own])")],
    "evaluation: a clash of one question ends all": [
        (ASKING, "                del open_numbers[error.item]", "                raise error")
    ],
    "evaluation: each batch answers its first question": [
        (ASKING, "[question.image for question in some], ", "[some[0].image for question in some], ")
    ],
    "command line: a device that is not tried": [
        ("cli/common.py", "torch.ones(1, device=device).add(1).item()", "pass")
    ],
    "command line: a method named twice": [("cli/evaluating.py", "if names.count(name) > 1]", "if False]")],
    "templates: backslashes before a blank are not halved": [
        (TEMPLATE, 'pieces[-1] += "\\\\" * literal', 'pieces[-1] += match["escapes"]')
    ],
    "templates: white space alone is no character": [
        (TEMPLATE, "bool(piece if exact else piece.strip())", "bool(piece.strip())")
    ],
    "tokenizers: only the usual texts stand beside a piece": [
        (TOKENIZERS, "self._known(ANCHORS) or self._own_anchors", "self._known(ANCHORS)"),
        (TOKENIZERS, "yield from self._own_anchors", "yield from ()"),
    ],
    "vocabularies: unknown text is dropped": [(VOCABULARIES, 'if model["unk_token"] in vocab:', "if True:")],
    "vocabularies: blanks are filled with ids that have no token": [
        (VOCABULARIES, "for token in range(len(self)) if token not in self._texts}", "for token in ()}")
    ],
    "accept: what is rejected is not told": [(HOLDING, "return not self._known[text]", "return False")],
    "accept: what is rejected is an incumbent": [
        (EXACT, "[one.score for one in proof.answers if not one.rejected]", "[one.score for one in proof.answers]")
    ],
    "accept: what is rejected bounds what is accepted": [
        (METHODS, "if not own.broken and not own.rejected)", "if not own.broken)")
    ],
    "accept: groups are joined by score alone": [
        (FRONT, "(not checks.isdisjoint(one.broken), -one.score, one.tokens)", "(-one.score, one.tokens)")
    ],
    "accept: groups drop what is rejected": [(FRONT, "if checks.issuperset(one.broken)]", "if not one.broken]")],
    "accept: as many rejected as there are places": [
        (
            FINALISTS,
            "room = np.array([keep - len(own) for own in answers])",
            "room = np.array([keep for own in answers])",
        )
    ],
    "accept: the same words with another text come again": [
        (FINALISTS, "and all(one.words != other.words for other in answers)", "")
    ],
    "accept: a text is asked again": [(HOLDING, "if text not in self._known:", "if True:")],
    "accept: a part of a batch spells by others' templates": [
        (REQUEST, "self.demands.checks[some]", "self.demands.checks[: len(self.items[some])]")
    ],
    "accept: sentences ranked later are read again": [
        (FINALISTS, "sweeps_follow or tier != tiers[-1]", "sweeps_follow")
    ],
    "accept: a joint model ranks by score alone": [
        (FINALISTS, "key=lambda one: (one.tier, -one.score, one.words)", "key=lambda one: (-one.score, one.words)")
    ],
    "lines: a byte order mark is text": [(LINES, "if raws and not before:", "if False:")],
    "lines: every block is the first": [(LINES, "opened.seek(offset)", "opened.seek(0)")],
    "lines: vectors of the first block for all": [
        (LINES, "file.vectors[first : first + PER_BLOCK]", "file.vectors[:PER_BLOCK]")
    ],
    "lines: a file that changes is read on": [(LINES, "if _stamp(opened) != stamp:", "if False:")],
    "training: lines that fill no batch of a pool are lost": [
        (TRAINING, "now, waiting = waiting[:ready], waiting[ready:]", "now, waiting = waiting[:ready], []")
    ],
    "training: characters are counted for bytes": [(TRAINING, "if 4 * max(len(line.text)", "if max(len(line.text)")],
    "training: other sources are not noticed": [(TRAINING, "else tuple(line) for line", "else line[:2] for line")],
    "training: a resumed epoch begins anew": [
        (TRAINING, "itertools.islice(batches, begun.steps, None)", "itertools.islice(batches, 0, None)")
    ],
    "training: the rest of a resumed epoch is drawn anew": [(TRAINING, "self._order.set_state(begun.order)", "pass")],
    "translator: padding of the source is attended to": [(TRANSLATOR, "attn_mask=real[:, None]", "attn_mask=None")],
    "translator: keys taken for values": [(TRANSLATOR, "(h1, keys, values,", "(h1, values, keys,")],
    "translator: the ends of the source swapped": [
        (TRANSLATOR, "torch.cat([last[0], last[1]], dim=1)", "torch.cat([last[1], last[0]], dim=1)")
    ],
    "half precision: the scale of features, too": [
        (FILES, "tensor.half() if name in weights else tensor.float()", "tensor.half()")
    ],
    "command line: unknown tokens are let pass": [(TRAIN, 'if unknown == "error":', "if False:")],
    "command line: sources of two kinds": [(TRAIN, "!= (other := _sources_of(validation)):", "!= (other := kind):")],
    "command line: sources are read as the lines are": [
        (TRAIN, "reading.source_tokens or reading.tokens, lambda", "reading.tokens, lambda")
    ],
    "alignment: the backward state comes out of the padding": [(ALIGNMENT, " * there[:, at, None]", "")],
    "alignment: the mean over regions": [
        (ALIGNMENT, "best = similarities.amax(dim=1)", "best = similarities.mean(dim=1)")
    ],
    "alignment: the bias of regions left out of fast scores": [
        (ALIGNMENT, "torch.ones_like(scaled[..., :1])", "torch.zeros_like(scaled[..., :1])")
    ],
    "alignment: length 1 forgotten in fast scores": [
        (ALIGNMENT, "        if not self.unit_regions:\n            return vectors\n", "        return vectors\n")
    ],
    "alignment: no reward for the same region": [
        (ALIGNMENT, "stays = best + smoothing > best[source]", "stays = best > best[source]")
    ],
    "alignment: the last of equally good regions": [
        (ALIGNMENT, "stays = best + smoothing > best[source]", "stays = best + smoothing >= best[source]")
    ],
    "alignment: dropout in scores": [
        (
            ALIGNMENT,
            "with eval_mode([self]):\n            vectors",
            "with eval_mode([]):\n            vectors",
        )
    ],
    "alignment: no dropout of features": [
        (ALIGNMENT, "self.dropout(self._scaled(features))", "self._scaled(features)")
    ],
    "alignment: no momentum": [("training.py", "momentum=0.9)", "momentum=0.0)")],
    "alignment: regions of a grid are taken for others": [
        ("models/regions.py", "regions == 1 + CELLS**2", "regions == CELLS**2")
    ],
    "regions: what is hidden is black": [
        ("models/regions.py", "tuple(np.median(pixels, axis=(0, 1)).astype(np.uint8).tolist())", "(0, 0, 0)")
    ],
    "alignment: right pairs count as wrong": [(ALIGNMENT, "if right is None else ~right.to", "if True else ~right.to")],
    "alignment: wrong sentences do not count": [
        (ALIGNMENT, "return of_pictures.sum(dim=0) + of_sentences.sum(dim=1)", "return of_pictures.sum(dim=0)")
    ],
    "alignment: boxes show what is around them": [
        ("models/regions.py", "hidden.paste(picture.crop(corners), corners)", "hidden.paste(picture)")
    ],
    "ranking: ties count as right": [(RANKING, "self.ties / (self.level + 1)", "0 * self.ties")],
    "ranking: ties are drawn with replacement": [
        (RANKING, "drawn = place - self.better", "drawn = np.minimum(place - self.better, 0)")
    ],
    "ranking: a picture is one of the others": [
        (RANKING, "without[0], without[-1] = behind[1], before[-2]", "without[0], without[-1] = behind[0], before[-1]")
    ],
    "ranking: a picture is one of the others in the middle": [
        (RANKING, "np.logaddexp(before[:-2], behind[2:])", "np.logaddexp(before[1:-1], behind[2:])")
    ],
    "ranking: intervals over sentences": [
        (RANKING, "SEARCH: (scores.T, right.T, list(owner))", "SEARCH: (scores.T, right.T, list(range(len(owner))))")
    ],
    "ranking: rounding breaks ties": [(RANKING, "own[:] = own[first][which]", "pass")],
    "ranking: queries of the first part again": [
        (RANKING, "scores[begin : begin + QUERIES_AT_A_TIME]", "scores[:QUERIES_AT_A_TIME]")
    ],
    "ranking: the spread of pairs that were not scored": [(RANKING, "other[there].std()", "other.std()")],
    "rankers: CCA with the worst settings": [(RANKERS, "return max(tried", "return min(tried")],
    "rankers: CCA without the weights of correlations": [
        (RANKERS, "weights = self.correlations[:directions]", "weights = np.ones_like(self.correlations[:directions])")
    ],
    "command line: J is that of one direction": [
        ("cli/ranking.py", "found[FORWARD + ending] + found[BACKWARD + ending]", "2 * found[FORWARD + ending]")
    ],
    "command line: the weight of the score is 1": [
        ("cli/ranking.py", "best_weight(of_captioners[ours], own, validation.owner)", "1.0")
    ],
    "contact sheet: words are not escaped": [("show/sheets.py", "html.escape(word)\n        if", "word\n        if")],
    "rankers: the backward model reads forward": [
        (RANKERS, 'if direction == "forward" else tuple(words)[::-1]', "if True else tuple(words)[::-1]")
    ],
    "rankers: the end of a sentence is not scored": [
        (RANKERS, "sums[:, ends] + ended.reshape(count, -1)", "sums[:, ends]")
    ],
    "grounding: a region that shows more of another": [
        ("evaluation/grounding.py", " and overlaps[number] == max(overlaps)", "")
    ],
    "record: look-ahead without its weight": [(RECORDER, "looks = weight * looks", "looks = 1.0 * looks")],
    "record: prior left out": [(RECORDER, "            if opposite.prior:\n", "            if False:\n")],
    "record: costs of constraints left out": [
        (RECORDER, "        if restraint is not None:\n            changes", "        if False:\n            changes")
    ],
    "record: words in reading order": [
        (RECORDER, "(token, *own[::-1]) if reverse else (*own, token)", "(*own, token)")
    ],
    "record: the far side mirrored": [(RECORDER, "rest = rest[::-1]", "pass")],
    "record: dropped candidates kept": [(RECORDER, "ranks < keep,", "ranks >= 0,")],
    "record: constraints that were lifted noted twice": [
        (RECORDER, "if last.get((number, position)) != turn:", "if (number, position) not in last:")
    ],
    "record: chances of draws not normalised": [(RECORDER, " - np.log(np.exp(log_probs - peak).sum()))", ")")],
    "record: all items in one pool": [(RECORDER, "tuple(self._pool.get(item, ()))", "tuple(self._pool.get(0, ()))")],
    "record: every group the first": [("record.py", "replace(own, group=group)", "replace(own, group=0)")],
    "trace: the end of the script in a word": [(TRACE, 'data.replace("<", "\\\\u003c")', "data")],
    "trace: the wrong beam behind": [(TRACE, "max(beyond) if reverse else min(beyond)", "min(beyond)")],
    "trace: titles not escaped": [(TRACE, "autoescape=True", "autoescape=False")],
    "trace: joins that were given up called read": [
        (TRACE, "sum(one.score is not None for one in step.splices)", "len(step.splices)")
    ],
    "notebooks: words not escaped": [(MARKUP, 'f"{html.escape(word)}</span>"', 'f"{word}</span>"')],
    "posterior: spans one word short": [
        (POSTERIOR, "in best_between(begin, end)) for", "in best_between(begin, max(begin, end - 1))) for")
    ],
    "pixel models shown the neighbours of the pixel before": [
        (PIXELS, "before.shape[1] + 1 + step[:, None]", "before.shape[1] + step[:, None]")
    ],
    "neighbours on the other side of the picture not left out": [
        (PIXELS, "torch.where(self.inside[places], neighbours, PAD)", "neighbours")
    ],
    "places of pixels not counted on": [(PIXELS, "at + tokens.shape[1])", "at)")],
    "known pixels searched": [(PIXELS, "Template.BLANK if missing else token", "Template.BLANK")],
    "overlap not weighted": [(CONTEXT_ENCODER, "missing + OVERLAP_WEIGHT * around", "missing + around * 1.0")],
    "hole shown to the Context Encoder": [(CONTEXT_ENCODER, "pictures if self.sees_all else", "pictures if True else")],
    "discriminator deceived the wrong way round": [
        (
            CONTEXT_ENCODER,
            "loss(painted_logits, torch.ones_like(painted_logits))",
            "loss(painted_logits, torch.zeros_like(painted_logits))",
        )
    ],
    "channel-wise layer turned": [(CONTEXT_ENCODER, "ncp,cpq->ncq", "ncp,cqp->ncq")],
    "overlap inside the hole": [(HOLES, "return around & ~holes", "return around & holes")],
    "data sets: damaged parts are taken": [(PARTS, 'if digest.hexdigest() != head["sha256"]:', "if False:")],
    "data sets: settings are not compared": [
        (PARTS, "if differences := _differences(before, json.loads(_json(about))):", "if differences := []:")
    ],
    "data sets: changed answers are taken": [
        (PARTS, 'if file_checksum(self.output) != answers["sha256"]:', "if False:")
    ],
    "data sets: two runs at a time": [(PARTS, "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB")],
    "data sets: unfinished parts have their name": [
        (PARTS, 'temporary = path.with_name(f"{path.name}{TEMPORARY}")', 'temporary = path.with_name(f"{path.name}")')
    ],
    "data sets: what is done is decoded again": [
        (
            GOING,
            "for one in self.questions.batches(window) if one.key not in self.there",
            "for one in self.questions.batches(window)",
        )
    ],
    "data sets: what is kept is lost when a run ends early": [
        (GOING, "        finally:\n            self.write()", "        finally:\n            pass")
    ],
    "data sets: a run that ends early leaves its reading thread": [
        (GOING, "with closing(_ahead(read)) as batches:", "for batches in [_ahead(read)]:")
    ],
    "data sets: a part never ends": [(GOING, "if late or sum(", "if sum(")],
    "data sets: one question refuses its batch": [
        (
            DECODER,
            "            if len(places) == 1:\n                return {places[0]: _line(error)}",
            "            if places:\n                return dict.fromkeys(places, _line(error))",
        )
    ],
    "data sets: weights are not compared": [
        (
            DECODER,
            "for own in (module.named_parameters(recurse=False), ",
            "for own in (module.named_buffers(recurse=False), ",
        )
    ],
    "data sets: windows that begin a question late": [
        (ASKED, "first = number * size\n", "first = number * size + 1\n")
    ],
    "data sets: equal ids are taken": [(ASKED, "            if one in found:", "            if False:")],
    "data sets: batches of any widths": [
        (ASKED, "sorted(self.window(window), key=lambda one: one.width)", "list(self.window(window))")
    ],
    "data sets: vectors in the answers": [(ANSWERED, ' if name != "features" or not isinstance(value, list)', "")],
    "report: the first answers are the examples": [(DESCRIBED, "(place := draw.randrange(seen)) < SHOWN", "False")],
    "report: the least work is shown": [
        (DESCRIBED, 'rows = (one.get("rows") or 0,', 'rows = (-(one.get("rows") or 0),')
    ],
    "report: case has no meaning in molecules": [
        (DESCRIBED, 'text == one or (" " in one.strip() and ', "text == one or (")
    ],
    "workers: GPUs without room for all": [
        ("datasets/cluster.py", "on_one = -(-workers // gpus)", "on_one = max(1, workers // gpus)")
    ],
    "grounding: every word is right": [("evaluation/grounding.py", "fits[aligned[at]]", "True")],
}


def run(folder: Path) -> list[str]:
    """The tests that fail in a folder."""
    options = ["-q", "--hypothesis-profile=faults", "--tb=no", "-p", "no:cacheprovider", "-rfE"]
    command = [sys.executable, "-m", "pytest", *options, "-m", "not process"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=LONGEST)
    except subprocess.TimeoutExpired:  # a search that a fault keeps from ending
        return [f"no end after {LONGEST} s"]
    lines = [line.split(" - ")[0] for line in done.stdout.splitlines()]
    failed = [line.split("::")[-1].split("[")[0] for line in lines if line.startswith(("FAILED", "ERROR"))]
    if done.returncode not in (0, 1) or bool(failed) != bool(done.returncode):
        raise RuntimeError(done.stdout + done.stderr)
    return list(dict.fromkeys(failed))


def with_fault(name: str) -> dict[str, str]:
    """The files that a fault changes, with the fault."""
    changed: dict[str, str] = {}
    for file, right, wrong in FAULTS[name]:
        source = changed.get(file) or (ROOT / "birnn_decode" / file).read_text(encoding="utf-8")
        if source.count(right) != 1:
            raise ValueError(
                f"{name}: {file} has {right!r} {source.count(right)} times, not once; write the fault anew"
            )
        changed[file] = source.replace(right, wrong)
        compile(changed[file], file, "exec")  # every test would catch a fault that is no Python
    return changed


def plant(name: str) -> list[str]:
    """The tests that fail with a fault; without any for the name ""."""
    changed = with_fault(name) if name else {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("birnn_decode", "tests", "examples", "docs"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("setup.cfg", "Makefile", "README.md", "CONTRIBUTING.md"):
            shutil.copy(ROOT / file, copy)
        for file, source in changed.items():
            (copy / "birnn_decode" / file).write_text(source, encoding="utf-8")
        return run(copy)


def misfits() -> list[str]:
    """What is wrong with the faults: those that today's sources do not have once, or that are no Python."""
    found = []
    for name in FAULTS:
        try:
            with_fault(name)
        except (ValueError, SyntaxError, OSError) as error:
            found.append(f"{name}: {error}" if isinstance(error, SyntaxError) else str(error))
    return found


def main() -> int:
    if wrong := misfits():
        raise SystemExit("\n".join(wrong))
    if sys.argv[1:] == ["--check"]:
        print(f"{len(FAULTS)} faults can be planted")
        return 0
    chosen = [name for name in FAULTS if not sys.argv[1:] or any(word in name for word in sys.argv[1:])]
    if failed := plant(""):
        raise SystemExit(f"tests fail without any fault: {', '.join(failed)}")
    survived = 0
    with ThreadPoolExecutor(2) as pool:
        for name, failed in zip(chosen, pool.map(plant, chosen), strict=True):
            survived += not failed
            print(f"{name}: {', '.join(failed) if failed else 'SURVIVED'}", flush=True)
    print(f"{len(chosen) - survived} caught, {survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
