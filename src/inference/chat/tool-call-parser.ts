/**
 * Tool calls out of an answer that arrives in pieces. Outside of calls text passes through, except an end that may begin a
 * marker. Inside, a call counts once its name is known and is one of the request's tools; from there its arguments stream as
 * they come. What turns out to be no call (no JSON, an unknown name) is given back as text, unchanged.
 *
 * | state | meets                    | becomes | gives                                     |
 * | ----- | ------------------------ | ------- | ----------------------------------------- |
 * | text  | an opening marker, or a bare `{`/`[` at the start where the family has it | calls | – |
 * | calls | a call's name            | arguments | the call's index and name                |
 * | calls | a closing marker         | text    | –                                         |
 * | calls | anything else            | text    | what was held, as text                    |
 * | arguments | the end of the value | tail    | the rest of the arguments                 |
 * | tail  | the end of the call's object (at once for named calls) | calls | –               |
 */

import { readCallObject } from "./call-object.ts";
import type { OutputDelta, OutputParser } from "./conversation.ts";
import { JsonScanner, partialMarkerChars } from "./json-scanner.ts";
import type { ToolFormat } from "./tool-format.ts";

/** A name, its key and white space fit; longer beginnings are read as a whole object. */
const HEADER_CHARS_MAX = 512;
/** A call that is read as a whole; the longest arguments seen are files of code. */
const CALL_CHARS_MAX = 1_048_576;
const HEADER = /^\{\s*"name"\s*:\s*("(?:[^"\\]|\\.){1,64}")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)/;
/** Between calls: list brackets, separators and code fences mean nothing. */
const BETWEEN = /^(?:[\s,;[\]]+|```(?:json)?)/;

export class ToolCallParser implements OutputParser {
  readonly #format: ToolFormat;
  readonly #names: ReadonlySet<string>;
  #state: "start" | "text" | "calls" | "arguments" | "tail" = "start";
  /** Text not yet understood. */
  #held = "";
  /** What was skipped since the last call, to give back when none follows. */
  #skipped = "";
  #scanner = new JsonScanner();
  /** In `calls`: the scan for the end of a call that is read as a whole. */
  #whole: { scanner: JsonScanner; scannedChars: number } | null = null;
  #hasTail = false;
  #calls = 0;
  #deltas: OutputDelta[] = [];

  constructor(options: { format: ToolFormat; toolNames: readonly string[] }) {
    this.#format = options.format;
    this.#names = new Set(options.toolNames);
  }

  get isHolding(): boolean {
    return this.#held !== "" || this.#skipped !== "";
  }

  push(text: string): readonly OutputDelta[] {
    this.#held += text;
    while (this.#step());
    return this.#take();
  }

  finish(): readonly OutputDelta[] {
    if (this.#state === "arguments") this.#argue(this.#held);
    if (this.#state === "start" || this.#state === "text") this.#say(this.#held);
    if (this.#state === "calls" && !this.#isOnlyBetween()) this.#say(this.#skipped + this.#held);
    this.#held = "";
    this.#skipped = "";
    return this.#take();
  }

  /** One step; false when more text is needed. */
  #step(): boolean {
    switch (this.#state) {
      case "start":
        return this.#start();
      case "text":
        return this.#text();
      case "calls":
        return this.#between();
      case "arguments":
        return this.#arguments();
      case "tail":
        return this.#tail();
    }
  }

  #start(): boolean {
    const trimmed = this.#held.trimStart();
    if (trimmed === "") return false;
    const { open, startsBare } = this.#format;
    if (open.some((marker) => marker.length > trimmed.length && marker.startsWith(trimmed))) return false;
    const isMarked = open.some((marker) => trimmed.startsWith(marker));
    this.#state = startsBare && !isMarked && /^[[{]/.test(trimmed) ? "calls" : "text";
    return true;
  }

  #text(): boolean {
    // A list of calls has closing marks of its own behind those of its last call.
    const markers = this.#calls > 0 ? [...this.#format.open, ...this.#format.close] : this.#format.open;
    const found = markers
      .map((marker) => ({ marker, at: this.#held.indexOf(marker) }))
      .filter(({ at }) => at !== -1)
      .sort((a, b) => a.at - b.at || b.marker.length - a.marker.length)[0];
    if (found === undefined) {
      const waiting = partialMarkerChars(this.#held, markers);
      this.#say(this.#held.slice(0, this.#held.length - waiting));
      this.#held = this.#held.slice(this.#held.length - waiting);
      return false;
    }
    this.#say(this.#held.slice(0, found.at));
    this.#held = this.#held.slice(found.at + found.marker.length);
    if (this.#format.close.includes(found.marker)) return true;
    this.#skipped = found.marker;
    this.#state = "calls";
    return true;
  }

  #between(): boolean {
    if (this.#whole !== null) return this.#readWhole(this.#whole);
    const marker = [...this.#format.close, ...this.#format.open].find((text) => this.#held.startsWith(text));
    if (marker !== undefined) {
      this.#skip(marker.length);
      if (this.#format.close.includes(marker)) this.#closed();
      return true;
    }
    if (this.#couldBeMarker()) return false;
    const between = BETWEEN.exec(this.#held)?.[0];
    if (between !== undefined) {
      this.#skip(between.length);
      return true;
    }
    if (this.#held === "" || "```json".startsWith(this.#held)) return false;
    if (this.#held.startsWith("{")) return this.#objectCall();
    return this.#namedCall();
  }

  #objectCall(): boolean {
    const header = this.#held.length <= HEADER_CHARS_MAX ? HEADER.exec(this.#held) : null;
    const name = header === null ? null : unquoted(header[1] ?? "");
    if (header !== null && name !== null && this.#names.has(name)) {
      this.#begin({ name, headerChars: header[0].length, hasTail: true });
      return true;
    }
    this.#whole = { scanner: new JsonScanner(), scannedChars: 0 };
    return this.#readWhole(this.#whole);
  }

  #readWhole(whole: { scanner: JsonScanner; scannedChars: number }): boolean {
    if (whole.scannedChars < this.#held.length && this.#held.length <= HEADER_CHARS_MAX) {
      const header = HEADER.exec(this.#held);
      const name = header === null ? null : unquoted(header[1] ?? "");
      if (name !== null && this.#names.has(name)) {
        this.#whole = null;
        return this.#objectCall();
      }
    }
    const end = whole.scanner.push(this.#held.slice(whole.scannedChars));
    if (end === null) {
      whole.scannedChars = this.#held.length;
      return this.#held.length > CALL_CHARS_MAX ? this.#giveBack() : false;
    }
    const text = this.#held.slice(0, whole.scannedChars + end);
    this.#whole = null;
    const call = readCallObject(text);
    if (call === null || !this.#names.has(call.name)) return this.#giveBack();
    this.#begin({ name: call.name, headerChars: text.length, hasTail: false });
    this.#argue(call.argumentsText);
    this.#state = "calls";
    return true;
  }

  #namedCall(): boolean {
    const header = this.#format.named?.exec(this.#held) ?? null;
    if (header !== null) {
      const name = header[1] ?? "";
      if (!this.#names.has(name)) return this.#giveBack();
      this.#begin({ name, headerChars: header[0].length, hasTail: false });
      return true;
    }
    const mayFollow = this.#format.named !== null && this.#held.length <= HEADER_CHARS_MAX && !this.#held.includes("{");
    return mayFollow ? false : this.#giveBack();
  }

  #begin(call: { name: string; headerChars: number; hasTail: boolean }): void {
    this.#deltas.push({ kind: "tool-call", index: this.#calls++, name: call.name });
    this.#held = this.#held.slice(call.headerChars);
    this.#skipped = "";
    this.#hasTail = call.hasTail;
    this.#scanner = new JsonScanner();
    this.#state = "arguments";
  }

  #arguments(): boolean {
    const end = this.#scanner.push(this.#held);
    this.#argue(this.#held.slice(0, end ?? this.#held.length));
    this.#held = end === null ? "" : this.#held.slice(end);
    if (end === null) return false;
    this.#scanner = new JsonScanner(1);
    this.#state = this.#hasTail ? "tail" : "calls";
    return true;
  }

  #tail(): boolean {
    const end = this.#scanner.push(this.#held);
    this.#held = end === null ? "" : this.#held.slice(end);
    if (end !== null) this.#state = "calls";
    return end !== null;
  }

  #closed(): void {
    // An opened and closed section without any call was text that looked like one.
    if (this.#calls === 0) this.#say(this.#skipped);
    this.#skipped = "";
    this.#state = "text";
  }

  #giveBack(): boolean {
    const text = this.#skipped + this.#held.slice(0, 1);
    this.#whole = null;
    this.#held = this.#held.slice(1);
    this.#skipped = "";
    this.#state = "text";
    this.#say(text);
    return true;
  }

  #skip(chars: number): void {
    this.#skipped += this.#held.slice(0, chars);
    this.#held = this.#held.slice(chars);
  }

  #couldBeMarker(): boolean {
    if (this.#held === "") return false;
    const markers = [...this.#format.close, ...this.#format.open];
    return markers.some((marker) => marker.length > this.#held.length && marker.startsWith(this.#held));
  }

  #isOnlyBetween(): boolean {
    return this.#calls > 0 && /^[\s,;[\]`]*$/.test(this.#held);
  }

  /** White space behind a call belongs to the format, not to the answer. */
  #say(text: string): void {
    if (text === "" || (this.#calls > 0 && text.trim() === "")) return;
    this.#deltas.push({ kind: "text", text });
  }

  #argue(text: string): void {
    if (text !== "") this.#deltas.push({ kind: "tool-arguments", index: this.#calls - 1, text });
  }

  #take(): readonly OutputDelta[] {
    const deltas = this.#deltas;
    this.#deltas = [];
    return deltas;
  }
}

function unquoted(text: string): string | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "string" ? value : null;
  } catch {
    return null; // an escape that JSON does not know: no name
  }
}
