/**
 * HTML and SVG as values. Text becomes markup only through `el`, which escapes it, so that a name from a file can never become a tag,
 * an attribute or a script.
 */

/** Made by `el` alone. */
export class Markup {
  readonly #text: string;
  private constructor(text: string) {
    this.#text = text;
  }
  toString(): string {
    return this.#text;
  }
  /** Of a whole element: tag and attribute names are ours, never a file's. */
  static element(tag: string, attributes: Attributes, children: readonly Content[]): Markup {
    const named = Object.entries(attributes).flatMap(([name, value]) =>
      value === null ? [] : [` ${name}="${escaped(typeof value === "number" ? shortNumber(value) : value)}"`],
    );
    const inner = children.map((child) => (child instanceof Markup ? child.toString() : escaped(child))).join("");
    return new Markup(`<${tag}${named.join("")}>${inner}</${tag}>`);
  }
  /** A style sheet: our own constant, which must not hold a `<`. */
  static style(text: string): Markup {
    return new Markup(`<style>${text.replaceAll("<", "")}</style>`);
  }
}

export type Attributes = Readonly<Record<string, string | number | null>>;
export type Content = Markup | string;

export function el(tag: string, attributes: Attributes, ...children: readonly Content[]): Markup {
  return Markup.element(tag, attributes, children);
}

const ESCAPES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

function escaped(text: string): string {
  // Of a control character a browser shows nothing; a reader should see that one stands there.
  return text.replace(/[&<>"']/g, (found) => ESCAPES[found] ?? "").replace(/[^\P{Cc}\t\n]/gu, "\u{fffd}");
}

/** Places in a drawing: a hundredth of a pixel is enough. */
function shortNumber(value: number): string {
  return String(Math.round(value * 100) / 100);
}
