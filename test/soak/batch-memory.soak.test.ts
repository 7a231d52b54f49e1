/**
 * A million lines through jobs, store and files of one process, and how much memory that takes. The grid behind answers at once. What lives stays the
 * same (18 MB of heap after 400,000 lines, 23 MB after 20,000); above it lies garbage that V8 lets grow to a bound of its own within 150,000 lines.
 */
import { expect, it } from "vitest";
import { openJobBench, promptLine, succeeded } from "../support/job-bench.ts";

const LINES = Number(process.env["FALLOW_SOAK_LINES"] ?? 1_000_000);
/** 453 MB were measured, of which 101 MB the test runner's own; more than this is something that grows with lines. */
const RSS_BYTES_MAX = 512e6;
/** Of the lines' second half over their first, where garbage has its bound: buffers of the output file, and nothing for each line. */
const GROWTH_BYTES_MAX = 64 * 1024 ** 2;
const LOOK_MS = 100;
const SOAK_MS_MAX = 3_600_000;

it(
  `a batch of ${LINES} lines takes at most 512 MB of memory, which stays where it was after its half`,
  async () => {
    let mostBytes = 0;
    let answered = 0;
    let halfBytes = 0;
    const look = setInterval(() => {
      if (answered < LINES / 2) halfBytes = Math.max(halfBytes, process.memoryUsage.rss());
      mostBytes = Math.max(mostBytes, process.memoryUsage.rss());
    }, LOOK_MS);
    const beforeBytes = process.memoryUsage.rss();
    await using bench = await openJobBench(() => {
      answered += 1;
      return Promise.resolve(succeeded("It says what it says. ".repeat(4)));
    });
    function* lines() {
      for (let at = 0; at < LINES; at++) yield promptLine(at);
    }
    const startedMs = performance.now();
    const file = await bench.upload(lines());
    const uploadedMs = performance.now();
    const { value } = await bench.ended(await bench.submit(file));
    clearInterval(look);
    const tookMs = performance.now() - uploadedMs;
    expect(value.record.status).toBe("completed");
    expect(value.counts).toMatchObject({ lines: LINES, completed: LINES });
    const output = value.record.outputFileId === null ? null : await bench.blobs.open(value.record.outputFileId);
    const facts = {
      ...{ lines: LINES, beforeBytes, halfBytes, mostBytes, uploadMs: Math.round(uploadedMs - startedMs) },
      ...{ linesPerSecond: Math.round((LINES * 1_000) / tookMs), outputBytes: output?.bytes },
    };
    console.log(JSON.stringify(facts));
    await output?.close();
    expect(mostBytes).toBeLessThan(RSS_BYTES_MAX);
    expect(mostBytes - halfBytes).toBeLessThan(GROWTH_BYTES_MAX);
  },
  SOAK_MS_MAX,
);
