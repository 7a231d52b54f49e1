import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { providerWords } from "./redact.ts";

describe("a provider's words", () => {
  test("are one short line", () => {
    expect(providerWords("a\r\nb\u001b[31mc\u202ed", null)).toBe("a b [31mc d");
    expect(providerWords("x".repeat(10_000), null)).toHaveLength(300);
  });

  test("lose the key, whole, in part, and keys that are not ours", () => {
    const secret = "Zq8vT1nW4xYb6Lm0";
    expect(providerWords(`bad key ${secret}.`, secret)).toBe("bad key [key].");
    expect(providerWords("bad key Zq8vT1nW****", secret)).toBe("bad key [key]****");
    expect(providerWords("key sk-live-abcdef123 is wrong", secret)).toBe("key [key] is wrong");
    expect(providerWords("Authorization: Bearer abc.def", null)).toBe("Authorization: [key]");
  });

  test("law: no run of six characters of the key comes through", () => {
    const anySecret = fc.stringMatching(/^[A-Za-z0-9]{12,40}$/);
    fc.assert(
      fc.property(anySecret, fc.string(), fc.string(), fc.nat(40), (secret, before, after, cut) => {
        const words = providerWords(`${before}${secret.slice(Math.min(cut, secret.length - 6))}${after}`, secret);
        for (let at = 0; at + 6 <= secret.length; at++) {
          const piece = secret.slice(at, at + 6);
          expect(
            words.replaceAll("[key]", "").includes(piece) && !before.includes(piece) && !after.includes(piece),
          ).toBe(false);
        }
      }),
    );
  });
});
