/** What every cache of weights keeps, the simulator's and the one on a real disk, as far as both can tell. */
import { describe, expect, test } from "vitest";
import { sha256Hex } from "../../src/domain/ids.ts";
import type { WeightsCache, WeightsWant } from "../../src/ports/weights-cache.ts";

export interface CacheUnderTest {
  readonly cache: WeightsCache;
  /** Models that can be had; two of them, of different sizes. */
  readonly wants: readonly [WeightsWant, WeightsWant];
  /** Lets time pass until it is settled. */
  settled<T>(promise: Promise<T>): Promise<T>;
}

export function weightsCacheContract(name: string, open: () => Promise<CacheUnderTest>): void {
  const quiet = () => ({ signal: new AbortController().signal, onProgress: () => undefined });

  describe(name, () => {
    test("has nothing before, and what was asked for after", async () => {
      const { cache, wants, settled } = await open();
      const [want, other] = wants;
      expect(await settled(cache.has(want.weightsSha256))).toBe(false);
      expect(await settled(cache.list())).toEqual([]);
      const seen: number[] = [];
      const path = await settled(cache.ensure(want, { ...quiet(), onProgress: (doneBytes) => seen.push(doneBytes) }));
      expect(seen).toEqual(seen.toSorted((a, b) => a - b));
      expect(seen.at(-1)).toBe(want.fileBytes);
      expect(await settled(cache.has(want.weightsSha256))).toBe(true);
      expect(await settled(cache.has(other.weightsSha256))).toBe(false);
      expect(await settled(cache.list())).toEqual([{ weightsSha256: want.weightsSha256, fileBytes: want.fileBytes }]);
      expect(await settled(cache.ensure(want, quiet()))).toBe(path);
    });

    test("keeps the order of use, and forgets what is removed", async () => {
      const { cache, wants, settled } = await open();
      const [one, two] = wants;
      await settled(cache.ensure(one, quiet()));
      await settled(cache.ensure(two, quiet()));
      await settled(cache.ensure(one, quiet()));
      const listed = await settled(cache.list());
      expect(listed.map(({ weightsSha256 }) => weightsSha256)).toEqual([two.weightsSha256, one.weightsSha256]);
      await settled(cache.remove(two.weightsSha256));
      await settled(cache.remove(sha256Hex("00".repeat(32))));
      expect((await settled(cache.list())).map(({ weightsSha256 }) => weightsSha256)).toEqual([one.weightsSha256]);
      await settled(cache.ensure(two, quiet()));
    });

    test("gives up when it is told to, and can be asked again", async () => {
      const { cache, wants, settled } = await open();
      const giveUp = new AbortController();
      const asked = cache.ensure(wants[0], { signal: giveUp.signal, onProgress: () => undefined });
      giveUp.abort(new Error("not wanted any more"));
      await expect(settled(asked)).rejects.toThrow();
      expect(await settled(cache.has(wants[0].weightsSha256))).toBe(false);
      await settled(cache.ensure(wants[0], quiet()));
    });
  });
}
