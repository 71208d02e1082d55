"use strict";

const $ = (id) => document.getElementById(id);
const video = $("video");
// When the browser cannot play what it is given, these copies are asked for in turn.
const FORMS = ["", "mp4", "webm"];
const POLL_MS = 400;
const AGAIN_MS = 5000;
// So often a vote is sent anew to a server that fails with it.
const REPEATS = 3;
// A proxy's words for a server that is not there.
const AWAY = [502, 503, 504];
const FRAME_SECONDS = 1 / 25;

let situation = null;
let shown = ""; // the code of the clip on the screen
let round = 1;
let ready = false; // whether the clip has been seen, so that it may be answered
let broken = false; // whether nothing of the clip can be shown: then it cannot be told either
let sending = false;

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

/**
 * Asks the server; repeats until it answers, because a vote must not be lost to a broken connection. A vote with which
 * the server itself fails again and again is given up: the reviewer hears of it.
 */
async function ask(path, said) {
  let trouble = "";
  let failures = 0;
  for (let pause = 1000; ; pause = Math.min(2 * pause, 8000)) {
    try {
      const options = said ? { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(said) } : {};
      const answer = await fetch(path, options);
      if (answer.status < 500) {
        const body = await answer.json();
        if (trouble && $("said").textContent === trouble) say("");
        return { status: answer.status, body };
      }
      failures += AWAY.includes(answer.status) ? 0 : 1;
      if (said && failures > REPEATS) {
        return { status: answer.status, body: { problem: `the server failed (${answer.status}); if this stays, tell who runs the study` } };
      }
    } catch {
      // No connection: tried again below.
    }
    trouble = said ? "Not saved yet: the server does not answer. Trying again." : "The server does not answer. Trying again.";
    say(trouble, "problem");
    await wait(pause);
  }
}

function say(text, kind) {
  $("said").textContent = text;
  $("said").className = kind || "";
}

const named = (choice) => (choice === situation.cannot_tell ? "cannot tell" : choice);

function show(now, remark) {
  situation = now;
  round = now.round;
  $("who").textContent = now.reviewer;
  $("progress").max = Math.max(now.total, 1);
  $("progress").value = now.done;
  $("count").textContent = `${now.done} of ${now.total}${leftInWords(now.seconds_left)}`;
  $("rounds").hidden = !now.second_round_open;
  const left = [now.total - now.done, now.left_in_other_round];
  $("round-1").textContent = `First look (${left[round - 1]} left)`;
  $("round-2").textContent = `Discuss (${left[2 - round]} left)`;
  for (const number of [1, 2]) $(`round-${number}`).setAttribute("aria-current", String(number === round));
  $("undo").disabled = $("undo-last").disabled = !now.last;
  $("stage").hidden = $("panel").hidden = !now.clip;
  $("finished").hidden = Boolean(now.clip);
  // What is said stands where it is seen.
  const beside = $(now.clip ? "undo" : "undo-last");
  if (beside.previousElementSibling !== $("said")) beside.before($("said"));
  if (!now.clip) {
    shown = "";
    unload();
    $("finished-text").textContent = finishedWords(now);
    return;
  }
  buildChoices(now);
  tell(now.clip);
  if (now.clip.code !== shown) {
    shown = now.clip.code;
    $("remark").value = remark || "";
    play(shown, 0);
  } else {
    allow(ready);
  }
}

function finishedWords(now) {
  if (!now.total) return round === 2 ? "There is nothing to discuss yet." : "There are no clips.";
  const other = now.second_round_open && now.left_in_other_round;
  const waits = now.left_in_other_round === 1 ? "1 clip waits" : `${now.left_in_other_round} clips wait`;
  const more = other ? ` ${waits} under "${round === 1 ? "Discuss" : "First look"}".` : "";
  const all = now.total === 1 ? "the one clip" : `all ${now.total} clips`;
  return `You have answered ${all}. Everything is saved; you may close this page.${more}`;
}

function leftInWords(seconds) {
  if (!seconds) return "";
  const minutes = Math.ceil(seconds / 60);
  return minutes < 90 ? `, about ${minutes} min left` : `, about ${(minutes / 60).toFixed(minutes < 600 ? 1 : 0)} h left`;
}

function buildChoices(now) {
  const box = $("choices");
  const names = now.labels.map((label) => label.name).join("\n");
  if (box.dataset.names !== names) {
    box.dataset.names = names;
    box.classList.toggle("many", now.labels.length > 16);
    $("search-label").hidden = now.labels.length <= 16;
    box.replaceChildren(...now.labels.map(choiceButton));
  }
  const mine = (now.clip.votes || []).find((vote) => vote.reviewer === now.reviewer);
  for (const button of document.querySelectorAll(".choice")) {
    button.classList.toggle("mine", Boolean(mine) && button.dataset.choice === mine.choice);
  }
}

function choiceButton(label) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "choice";
  button.dataset.choice = label.name;
  button.append(label.name);
  if (label.key) {
    const key = document.createElement("kbd");
    key.textContent = label.key;
    button.append(key);
  }
  button.addEventListener("click", () => vote(label.name));
  return button;
}

/** Shows what the study lets the reviewer know of the clip. */
function tell(clip) {
  const parts = [];
  const line = (tag, text, name) => Object.assign(document.createElement(tag), { textContent: text, className: name || "" });
  if (clip.label) parts.push(line("p", `Intended expression: ${clip.label}`));
  if (clip.person) parts.push(line("p", `Person: ${clip.person}`));
  if (clip.votes) {
    const list = document.createElement("ul");
    for (const vote of clip.votes) {
      const entry = line("li", `${vote.reviewer}${vote.reviewer === situation.reviewer ? " (you)" : ""}: ${named(vote.choice)}`);
      if (vote.remark) entry.append(line("span", vote.remark, "remark"));
      list.append(entry);
    }
    parts.push(line("h1", "First votes"), list);
  }
  $("told").replaceChildren(...parts);
}

function allow(yes) {
  ready = yes;
  for (const button of $("choices").children) button.disabled = !yes || sending || broken;
  $("cannot-tell").disabled = !yes || sending;
}

function unload() {
  video.removeAttribute("src");
  video.load();
  $("image").removeAttribute("src");
  video.hidden = $("image").hidden = true;
}

/** Plays a clip as soon as the server has something that a browser plays. */
async function play(code, attempt) {
  broken = false;
  allow(false);
  unload();
  const form = FORMS[attempt] ? `?form=${FORMS[attempt]}` : "";
  for (;;) {
    const { body } = await ask(`clip/${code}/playable${form}`);
    if (code !== shown) return;
    if (body.state === "ready") return load(code, attempt, body.type, form);
    if (body.passing) {
      waiting(`The server cannot show this clip now: ${body.problem}. It tries again; if this stays, tell who runs the study.`);
      await wait(AGAIN_MS);
      if (code !== shown) return;
      continue;
    }
    if (body.state === "failed" || !body.state) return cannotPlay(body.problem);
    const share = body.share === null ? "" : `, ${Math.round(100 * body.share)} %`;
    waiting(`This clip is being made playable${body.state === "working" ? share : "; others are before it"}`, body.share);
    await wait(POLL_MS);
    if (code !== shown) return;
  }
}

function load(code, attempt, type, form) {
  const address = `clip/${code}${form}`;
  if (type.startsWith("image/")) {
    const image = $("image");
    image.onload = () => begin(code, image);
    image.onerror = () => code === shown && cannotPlay("the browser cannot show this picture");
    image.src = address;
    return;
  }
  video.onloadeddata = () => begin(code, video);
  video.onerror = () => {
    if (code !== shown || !video.hasAttribute("src")) return;
    if (attempt + 1 < FORMS.length) play(code, attempt + 1);
    else cannotPlay("this browser plays none of its forms");
  };
  video.src = address;
  video.playbackRate = video.defaultPlaybackRate = pressed("slow") ? 0.5 : 1;
  video.loop = pressed("loop");
  video.play().catch(() => {}); // A browser that forbids it leaves the button.
}

function begin(code, element) {
  if (code !== shown) return;
  $("wait").hidden = true;
  element.hidden = false;
  $("controls").hidden = element !== video;
  allow(true);
  const [next] = situation.next;
  if (next) makeReady(next);
}

/** Fetches the next clip while this one is looked at. */
async function makeReady(code) {
  const { body } = await ask(`clip/${code}/playable`);
  if (body.state === "ready" && body.type.startsWith("video/")) $("ahead").src = `clip/${code}`;
}

function waiting(text, share) {
  $("wait").hidden = false;
  $("wait-text").textContent = text;
  $("wait-progress").hidden = share === undefined;
  if (typeof share === "number") $("wait-progress").value = share;
  else $("wait-progress").removeAttribute("value");
}

function cannotPlay(problem) {
  waiting(`This clip cannot be played: ${problem}. Answer "cannot tell", or tell who runs the study.`);
  $("controls").hidden = true;
  broken = true;
  allow(true);
}

async function vote(choice) {
  if (sending || !ready || !situation.clip || (broken && choice !== situation.cannot_tell)) return;
  const said = { clip: shown, choice, round, remark: $("remark").value, request: fresh() };
  const { status, body } = await act("vote", said);
  if (status === 200) say(`Saved: ${named(choice)}`, "saved");
  else if (status === 409 && body.standing) say(`Not counted: ${body.problem}. It stands as "${named(body.standing.choice)}".`, "problem");
  else say(`Not counted: ${body.problem}`, "problem");
}

async function undo() {
  if (sending || !situation.last) return;
  const last = situation.last;
  const { status, body } = await act("undo", { vote: last.id, round });
  if (status === 200) say(`Taken back: ${named(last.choice)}. Answer this clip again.`);
  else say(`Not taken back: ${body.problem}.`, "problem");
}

async function act(path, said) {
  sending = true;
  allow(ready);
  $("undo").disabled = true;
  const answer = await ask(path, said);
  sending = false;
  // A key press meant for the old clip must not answer the new one.
  if (document.activeElement) document.activeElement.blur();
  if (answer.body.labels) show(answer.body, path === "undo" && answer.status === 200 ? answer.body.saved.remark : "");
  else allow(ready);
  $("screen").focus({ preventScroll: true });
  return answer;
}

/** A name for one vote, so that asking twice votes once. */
function fresh() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const pressed = (id) => $(id).getAttribute("aria-pressed") === "true";

function toggle(id, apply) {
  $(id).setAttribute("aria-pressed", String(!pressed(id)));
  apply(pressed(id));
}

const playing = () => (video.paused ? video.play().catch(() => {}) : video.pause());
const slow = () => toggle("slow", (on) => { video.playbackRate = video.defaultPlaybackRate = on ? 0.5 : 1; });
const loop = () => toggle("loop", (on) => { video.loop = on; });

function step(direction) {
  video.pause();
  const end = Number.isFinite(video.duration) ? video.duration : 0;
  video.currentTime = Math.min(Math.max(video.currentTime + direction * FRAME_SECONDS, 0), end);
}

for (const name of ["play", "pause"]) {
  video.addEventListener(name, () => { $("play").firstChild.textContent = video.paused ? "Play " : "Pause "; });
}

function search() {
  const wanted = $("search").value.trim().toLowerCase();
  for (const button of $("choices").children) button.hidden = !button.dataset.choice.toLowerCase().includes(wanted);
}

/** Enter in the search answers when one expression is left. */
function chooseFound(event) {
  if (event.key !== "Enter") return;
  const found = [...$("choices").children].filter((button) => !button.hidden);
  const exact = found.find((button) => button.dataset.choice.toLowerCase() === $("search").value.trim().toLowerCase());
  if (!exact && found.length !== 1) return;
  $("search").value = "";
  search();
  (exact || found[0]).click();
}

const KEYS = {
  " ": playing, ",": slow, ".": loop, ArrowLeft: () => step(-1), ArrowRight: () => step(1), Backspace: undo,
  Enter: () => $("remark").focus(), "/": () => $("search").focus(), 0: () => $("cannot-tell").click(),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("textarea, input:not([type=checkbox])");
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if ((event.ctrlKey || event.metaKey) && event.key === "z") {
    event.preventDefault();
    undo();
    return;
  }
  if (!$("keys").checked || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !situation) return;
  // A focused button keeps the keys that press it.
  if (event.target.matches("button, input") && [" ", "Enter"].includes(event.key)) return;
  const label = situation.labels.find((one) => one.key === event.key);
  const action = label ? () => vote(label.name) : KEYS[event.key];
  if (!action || (event.key === "/" && $("search-label").hidden)) return;
  event.preventDefault();
  action();
});

async function change(number) {
  if (sending) return;
  const { body } = await ask(`state?round=${number}`);
  if (!body.labels) return say(body.problem, "problem");
  if (number !== round) { shown = ""; say(""); }
  show(body);
}

function remember() {
  document.body.classList.toggle("no-keys", !$("keys").checked);
  try { localStorage.setItem("keys", $("keys").checked ? "on" : "off"); } catch { /* A browser without storage forgets. */ }
}

try { $("keys").checked = localStorage.getItem("keys") !== "off"; } catch { /* As above. */ }
remember();
$("keys").addEventListener("change", remember);
$("play").addEventListener("click", playing);
$("slow").addEventListener("click", slow);
$("loop").addEventListener("click", loop);
$("back").addEventListener("click", () => step(-1));
$("forth").addEventListener("click", () => step(1));
$("undo").addEventListener("click", undo);
$("undo-last").addEventListener("click", undo);
$("search").addEventListener("input", search);
$("search").addEventListener("keydown", chooseFound);
$("cannot-tell").dataset.choice = "cannot_tell";
$("cannot-tell").addEventListener("click", () => vote(situation.cannot_tell));
$("round-1").addEventListener("click", () => change(1));
$("round-2").addEventListener("click", () => change(2));
// Another tab may have gone on; a vote on its way is not disturbed.
document.addEventListener("visibilitychange", () => { if (!document.hidden && situation && !sending) change(round); });
window.addEventListener("beforeunload", (event) => { if (sending) event.preventDefault(); });
change(1);
