/**
 * Holds tokens back until the last of them ends a character. A leg that is lost in the middle of a character has then shown nothing of it,
 * and the next leg says it whole.
 */
import type { SampledToken } from "../../../domain/sampling.ts";
import { Utf8Stream } from "../../../inference/detokenise.ts";

export class WholeCharacters {
  readonly #utf8 = new Utf8Stream();
  readonly #bytesOf: (tokenId: number) => Uint8Array;
  #held: SampledToken[] = [];
  #heldText = "";

  constructor(bytesOf: (tokenId: number) => Uint8Array) {
    this.#bytesOf = bytesOf;
  }

  /** Tokens that may be shown, and their text; both empty while a character is open. */
  push(tokens: readonly SampledToken[]): { readonly tokens: readonly SampledToken[]; readonly text: string } {
    const out: SampledToken[] = [];
    let text = "";
    for (const token of tokens) {
      this.#held.push(token);
      this.#heldText += this.#utf8.push(this.#bytesOf(token.tokenId));
      if (this.#utf8.isHolding) continue;
      out.push(...this.#held);
      text += this.#heldText;
      this.#held = [];
      this.#heldText = "";
    }
    return { tokens: out, text };
  }

  /** The end of the answer: what was held belongs to it, however it reads. */
  flush(): { readonly tokens: readonly SampledToken[]; readonly text: string } {
    const tokens = this.#held;
    const text = this.#heldText + this.#utf8.flush();
    this.#held = [];
    this.#heldText = "";
    return { tokens, text };
  }
}
