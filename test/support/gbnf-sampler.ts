/** Random texts of a GBNF grammar: a small reader of the notation, and a walk that prefers short ways once it is deep. */

type Node =
  | { readonly kind: "literal"; readonly text: string }
  | { readonly kind: "class"; readonly isNegated: boolean; readonly ranges: readonly (readonly [number, number])[] }
  | { readonly kind: "rule"; readonly name: string }
  | { readonly kind: "sequence"; readonly items: readonly Node[] }
  | { readonly kind: "choice"; readonly branches: readonly Node[] }
  | { readonly kind: "repeat"; readonly item: Node; readonly min: number; readonly max: number | null };

/** Written when a class is negated, or wide: letters, digits, marks that JSON and HTML treat specially, and more bytes. */
const CHARACTERS = [..."abcXYZ019 _-.:/<>{}[]'é漢😀"].map((unit) => unit.codePointAt(0) ?? 0);
const DEPTH_FREE = 12;
const EXTRA_REPEATS_MAX = 4;

export class GbnfSampler {
  readonly #rules = new Map<string, Node>();
  /** Least number of nested rules to an end, for each rule. */
  readonly #heights = new Map<string, number>();

  constructor(grammar: string) {
    for (const line of grammar.split("\n")) {
      const [, name, body] = /^([a-z0-9-]+) ::= (.*)$/.exec(line) ?? [];
      if (name !== undefined && body !== undefined) this.#rules.set(name, new Reader(body).read());
    }
    for (let round = 0; round <= this.#rules.size; round++) {
      for (const [name, node] of this.#rules) this.#heights.set(name, this.#height(node) + 1);
    }
  }

  /** `draw` gives numbers in [0, 1). */
  sample(draw: () => number): string {
    return this.#write({ kind: "rule", name: "root" }, { draw, depth: 0 });
  }

  #write(node: Node, walk: { draw: () => number; depth: number }): string {
    switch (node.kind) {
      case "literal":
        return node.text;
      case "class":
        return characterOf(node, walk.draw);
      case "rule":
        return this.#write(this.#rule(node.name), { ...walk, depth: walk.depth + 1 });
      case "sequence":
        return node.items.map((item) => this.#write(item, walk)).join("");
      case "choice": {
        const least = Math.min(...node.branches.map((branch) => this.#height(branch)));
        const open =
          walk.depth < DEPTH_FREE ? node.branches : node.branches.filter((branch) => this.#height(branch) === least);
        const branch = open[Math.floor(walk.draw() * open.length)];
        if (branch === undefined) throw new Error("a choice has a branch");
        return this.#write(branch, walk);
      }
      case "repeat": {
        const most = Math.min(node.max ?? Number.POSITIVE_INFINITY, node.min + EXTRA_REPEATS_MAX);
        const times = walk.depth < DEPTH_FREE ? node.min + Math.floor(walk.draw() * (most - node.min + 1)) : node.min;
        return Array.from({ length: times }, () => this.#write(node.item, walk)).join("");
      }
    }
  }

  #height(node: Node): number {
    switch (node.kind) {
      case "literal":
      case "class":
        return 0;
      case "rule":
        this.#rule(node.name);
        return this.#heights.get(node.name) ?? 1_000;
      case "sequence":
        return Math.max(0, ...node.items.map((item) => this.#height(item)));
      case "choice":
        return Math.min(...node.branches.map((branch) => this.#height(branch)));
      case "repeat":
        return node.min === 0 ? 0 : this.#height(node.item);
    }
  }

  #rule(name: string): Node {
    const node = this.#rules.get(name);
    if (node === undefined) throw new Error(`the grammar has no rule ${name}`);
    return node;
  }
}

function characterOf(node: Extract<Node, { kind: "class" }>, draw: () => number): string {
  const isIn = (code: number) => node.ranges.some(([from, to]) => code >= from && code <= to);
  const pick = (codes: readonly number[]) => String.fromCodePoint(codes[Math.floor(draw() * codes.length)] ?? 0x3f);
  if (node.isNegated) return pick(CHARACTERS.filter((code) => !isIn(code)));
  const [from, to] = node.ranges[Math.floor(draw() * node.ranges.length)] ?? [0x3f, 0x3f];
  return String.fromCodePoint(from + Math.floor(draw() * (to - from + 1)));
}

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  read(): Node {
    const node = this.#choice();
    if (this.#at < this.#text.length) throw new Error(`unexpected ${this.#text.slice(this.#at, this.#at + 20)}`);
    return node;
  }

  #choice(): Node {
    const branches = [this.#sequence()];
    while (this.#take("|")) branches.push(this.#sequence());
    const [only] = branches;
    return branches.length === 1 && only !== undefined ? only : { kind: "choice", branches };
  }

  #sequence(): Node {
    const items: Node[] = [];
    for (;;) {
      this.#blank();
      const unit = this.#text[this.#at];
      if (unit === undefined || unit === "|" || unit === ")") return { kind: "sequence", items };
      items.push(this.#quantified(this.#item()));
    }
  }

  #item(): Node {
    if (this.#take("(")) {
      const node = this.#choice();
      if (!this.#take(")")) throw new Error("a group is not closed");
      return node;
    }
    if (this.#text[this.#at] === '"') return this.#literal();
    if (this.#text[this.#at] === "[") return this.#class();
    const name = /^[a-z0-9-]+/.exec(this.#text.slice(this.#at))?.[0];
    if (name === undefined) throw new Error(`not a rule: ${this.#text.slice(this.#at, this.#at + 20)}`);
    this.#at += name.length;
    return { kind: "rule", name };
  }

  #literal(): Node {
    this.#at++;
    let text = "";
    while (this.#text[this.#at] !== '"') text += String.fromCodePoint(this.#character());
    this.#at++;
    return { kind: "literal", text };
  }

  #class(): Node {
    this.#at++;
    const isNegated = this.#text[this.#at] === "^";
    if (isNegated) this.#at++;
    const ranges: [number, number][] = [];
    while (this.#text[this.#at] !== "]") {
      const from = this.#character();
      const isRange = this.#text[this.#at] === "-" && this.#text[this.#at + 1] !== "]";
      if (isRange) this.#at++;
      ranges.push([from, isRange ? this.#character() : from]);
    }
    this.#at++;
    return { kind: "class", isNegated, ranges };
  }

  /** As llama.cpp's parse_char: only these escapes exist. */
  #character(): number {
    const code = this.#text.codePointAt(this.#at);
    if (code === undefined) throw new Error("the rule ends within a literal");
    this.#at += String.fromCodePoint(code).length;
    if (code !== 0x5c) return code;
    const unit = this.#text[this.#at++] ?? "";
    if (unit === "x") {
      const digits = this.#text.slice(this.#at, this.#at + 2);
      if (!/^[0-9a-fA-F]{2}$/.test(digits)) throw new Error(`\\x${digits} is no escape`);
      this.#at += 2;
      return Number.parseInt(digits, 16);
    }
    const control = { n: 10, r: 13, t: 9 }[unit];
    if (control !== undefined) return control;
    if ('\\"[]'.includes(unit)) return unit.charCodeAt(0);
    throw new Error(`\\${unit} is no escape`);
  }

  #quantified(item: Node): Node {
    if (this.#take("*")) return { kind: "repeat", item, min: 0, max: null };
    if (this.#take("+")) return { kind: "repeat", item, min: 1, max: null };
    if (this.#take("?")) return { kind: "repeat", item, min: 0, max: 1 };
    const [whole, min, comma, max] = /^\{(\d+)(,(\d*))?\}/.exec(this.#text.slice(this.#at)) ?? [];
    if (whole === undefined || min === undefined) return item;
    this.#at += whole.length;
    const most = comma === undefined ? Number(min) : max === "" || max === undefined ? null : Number(max);
    return { kind: "repeat", item, min: Number(min), max: most };
  }

  #blank(): void {
    while (this.#text[this.#at] === " ") this.#at++;
  }

  #take(unit: string): boolean {
    this.#blank();
    if (this.#text[this.#at] !== unit) return false;
    this.#at++;
    return true;
  }
}
