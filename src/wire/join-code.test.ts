import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fromBase64Url, toBase64Url } from "./base64url.ts";
import { decodeJoinCode, encodeJoinCode, JOIN_CODE_CHARS_MAX, type JoinCode } from "./join-code.ts";

const CODE: JoinCode = {
  urls: ["https://192.168.1.20:8420"],
  token: `0a1b2c3d-${"9f".repeat(32)}`,
  certificateSha256: "ab".repeat(32),
  gridId: "grid-7f3a",
};

const anyCode: fc.Arbitrary<JoinCode> = fc.record({
  urls: fc.array(
    fc.webAuthority({ withPort: true }).map((authority) => `https://${authority}`),
    { minLength: 1, maxLength: 4 },
  ),
  token: fc.stringMatching(/^[0-9a-f]{16,64}$/),
  certificateSha256: fc.option(fc.stringMatching(/^[0-9a-f]{64}$/)),
  gridId: fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,40}$/),
});

const codeOf = (pasted: string) => {
  const decoded = decodeJoinCode(pasted);
  return decoded.ok ? "ok" : decoded.reason.code;
};

describe("a join code", () => {
  test("says what was put in, for any content", () => {
    fc.assert(
      fc.property(anyCode, (code) => {
        expect(decodeJoinCode(encodeJoinCode(code))).toEqual({ ok: true, value: code });
      }),
    );
  });

  test("is one word that a shell, a URL and a double click take whole", () => {
    expect(encodeJoinCode(CODE)).toMatch(/^[A-Za-z0-9_-]+$/);
  });

  test("survives line breaks and spaces that a mail program put in", () => {
    const text = encodeJoinCode(CODE);
    expect(decodeJoinCode(` ${text.slice(0, 60)}\r\n  ${text.slice(60)}\n`)).toMatchObject({ ok: true });
  });

  test("that was cut anywhere is refused as cut, or as none when hardly anything is left", () => {
    const text = encodeJoinCode(CODE);
    for (let length = "fallow1_".length; length < text.length; length++) {
      expect(codeOf(text.slice(0, length)), `${length} of ${text.length}`).toBe("join-code-truncated");
    }
    expect(codeOf("fallow1")).toBe("join-code-foreign");
  });

  test("with any one letter changed is never taken", () => {
    const text = encodeJoinCode(CODE);
    fc.assert(
      fc.property(fc.integer({ min: 8, max: text.length - 1 }), fc.constantFrom(..."ABCxyz019-_*é "), (at, letter) => {
        fc.pre(text[at] !== letter);
        expect(codeOf(text.slice(0, at) + letter + text.slice(at + 1))).not.toBe("ok");
      }),
    );
  });

  test("with something behind it is refused as altered", () => {
    expect(codeOf(`${encodeJoinCode(CODE)}AAAA`)).toBe("join-code-altered");
  });

  test("of another version names both versions and says what to do", () => {
    const newer = decodeJoinCode(encodeJoinCode(CODE).replace("fallow1_", "fallow2_"));
    expect(newer).toMatchObject({ ok: false, reason: { code: "join-code-version-unknown" } });
    expect(newer).toMatchObject({ reason: { message: expect.stringMatching(/version 2.*version 1.*update fallow/) } });
    const older = decodeJoinCode(encodeJoinCode(CODE).replace("fallow1_", "fallow0_"));
    expect(older).toMatchObject({ reason: { message: expect.stringMatching(/ask the grid for a new code/) } });
  });

  test("that is something else altogether is refused as foreign, whatever it is", () => {
    for (const pasted of ["", "hello", "https://192.168.1.20:8420", "fallow_", "ghp_abc", "fallow99999_AA"]) {
      expect(codeOf(pasted)).toBe("join-code-foreign");
    }
    expect(codeOf("x".repeat(JOIN_CODE_CHARS_MAX + 1))).toBe("join-code-too-long");
    fc.assert(fc.property(fc.string({ maxLength: 300 }), (text) => void decodeJoinCode(`fallow1_${text}`)));
  });

  test("with a good checksum over a content that fallow does not write is refused", () => {
    const evil = { ...CODE, urls: ["javascript:alert(1)"] };
    expect(() => encodeJoinCode(evil)).toThrow(/must hold/);
    expect(() => encodeJoinCode({ ...CODE, gridId: "a\nb" })).toThrow(/must hold/);
  });
});

test("base64url is Node's own, both ways", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      const text = Buffer.from(bytes).toString("base64url");
      expect(toBase64Url(bytes)).toBe(text);
      expect(fromBase64Url(text)).toEqual(bytes);
    }),
  );
  expect(fromBase64Url("A")).toBeNull();
  expect(fromBase64Url("AB")).toBeNull();
  expect(fromBase64Url("A+==")).toBeNull();
});
