import { describe, expect, test } from "vitest";
import { BusboyMultipart } from "./busboy-multipart.ts";

/** Bodies come from sockets: never two pieces in one turn. */
const nextTurn = () => new Promise((resolve) => setImmediate(resolve));
const BOUNDS = { fileBytesMax: 1_000, fieldsMax: 4, fieldBytesMax: 50 };
const TYPE = "multipart/form-data; boundary=xyz";

function form(parts: readonly { name: string; filename?: string; value: string }[], end = "--xyz--\r\n"): string {
  const written = parts.map(({ name, filename, value }) => {
    const file = filename === undefined ? "" : `; filename="${filename}"\r\nContent-Type: application/octet-stream`;
    return `--xyz\r\nContent-Disposition: form-data; name="${name}"${file}\r\n\r\n${value}\r\n`;
  });
  return written.join("") + end;
}

async function* inPieces(text: string, bytes: number): AsyncGenerator<Uint8Array> {
  const all = Buffer.from(text);
  for (let at = 0; at < all.length; at += bytes) {
    await nextTurn();
    yield all.subarray(at, at + bytes);
  }
}

async function read(text: string, options: { type?: string | null; bytes?: number } = {}) {
  const { type = TYPE, bytes = 7 } = options;
  const parts: Uint8Array[] = [];
  const outcome = await new BusboyMultipart().read(
    { contentType: type, body: inPieces(text, bytes) },
    BOUNDS,
    (part) => {
      parts.push(Uint8Array.from(part));
      return Promise.resolve();
    },
  );
  return { outcome, content: Buffer.concat(parts).toString() };
}

const codeOf = ({ outcome }: Awaited<ReturnType<typeof read>>) => (outcome.ok ? "ok" : outcome.reason.code);
const FILE = { name: "file", filename: "a b.jsonl", value: "one\ntwo ü\n" };

describe("a form with a file", () => {
  test.each([1, 2, 7, 10_000])("is read in pieces of %i bytes, fields on either side of the file", async (bytes) => {
    const text = form([{ name: "purpose", value: "batch" }, FILE, { name: "later", value: "yes" }]);
    const { outcome, content } = await read(text, { bytes });
    expect(outcome).toMatchObject({ ok: true, value: { file: { filename: "a b.jsonl", bytes: 11 } } });
    expect(outcome.ok && [...outcome.value.fields]).toEqual([
      ["purpose", "batch"],
      ["later", "yes"],
    ]);
    expect(content).toBe(FILE.value);
  });

  test("may lack the file, which is told", async () => {
    const { outcome } = await read(form([{ name: "purpose", value: "batch" }]));
    expect(outcome.ok && outcome.value.file).toBeNull();
  });

  test("may be exactly as large as allowed, and no larger", async () => {
    const sized = (bytes: number) => read(form([{ ...FILE, value: "x".repeat(bytes) }]));
    expect(codeOf(await sized(1_000))).toBe("ok");
    const { outcome } = await sized(1_001);
    expect(outcome).toMatchObject({ ok: false, reason: { code: "body-too-large" } });
    expect(outcome.ok ? "" : outcome.reason.message).toContain("1000 bytes");
  });

  test("that never ends is read no further than to its bound", async () => {
    let sent = 0;
    async function* endless(): AsyncGenerator<Uint8Array> {
      yield Buffer.from(form([{ ...FILE, value: "" }], "").slice(0, -2));
      for (;;) {
        sent += 100;
        await nextTurn();
        yield new Uint8Array(100).fill(0x78);
      }
    }
    const multipart = new BusboyMultipart();
    const outcome = await multipart.read({ contentType: TYPE, body: endless() }, BOUNDS, () => Promise.resolve());
    expect(outcome).toMatchObject({ ok: false, reason: { code: "body-too-large" } });
    expect(sent).toBeLessThan(200_000);
  });

  test("is refused when it is none, is cut off, has two files, too many or too long fields, or the file elsewhere", async () => {
    expect(codeOf(await read("{}", { type: "application/json" }))).toBe("unsupported-media-type");
    expect(codeOf(await read("{}", { type: null }))).toBe("unsupported-media-type");
    expect(codeOf(await read("{}", { type: "multipart/form-data" }))).toBe("unsupported-media-type");
    expect(codeOf(await read(form([FILE]), { type: "multipart/form-data; x=y" }))).toBe("invalid-request");
    expect(codeOf(await read(form([FILE], "")))).toBe("invalid-request");
    expect(codeOf(await read(form([FILE, FILE])))).toBe("invalid-request");
    const field = { name: "a", value: "b" };
    expect(codeOf(await read(form([field, field, field, field, field, FILE])))).toBe("invalid-request");
    expect(codeOf(await read(form([{ name: "a", value: "b".repeat(51) }, FILE])))).toBe("invalid-request");
    expect(codeOf(await read(form([{ ...FILE, name: "upload" }])))).toBe("invalid-request");
  });

  test("passes on what the taker throws", async () => {
    const taking = new BusboyMultipart().read({ contentType: TYPE, body: inPieces(form([FILE]), 9) }, BOUNDS, () =>
      Promise.reject(new Error("full")),
    );
    await expect(taking).rejects.toThrow("full");
  });
});
