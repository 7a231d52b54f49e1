import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readLatencyTable } from "./latency-table.ts";
import { readLoadLatencies, readModelTrace } from "./model-trace.ts";
import { readRequestTrace } from "./request-trace.ts";
import { readSpotSeries } from "./spot-series.ts";

const HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens";
const whyOf = (outcome: { ok: true } | { ok: false; reason: { message: string } }) =>
  outcome.ok ? "" : outcome.reason.message;

describe("a request trace", () => {
  test("of the Azure table counts seconds from its first request, to a tenth of a microsecond", () => {
    const text = `${HEAD}\r\n2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,396,109\r\n`;
    const outcome = readRequestTrace(text);
    expect(
      outcome.ok && outcome.value.requests.map(({ promptTokens, outputTokens }) => [promptTokens, outputTokens]),
    ).toEqual([
      [374, 44],
      [396, 109],
    ]);
    expect(outcome.ok ? outcome.value.requests[1]?.atSeconds : 0).toBeCloseTo(4.314579, 6);
    expect(outcome.ok && outcome.value.startMs).toBeCloseTo(Date.UTC(2023, 10, 16, 18, 15, 46) + 680.59, 3);
  });

  test("is put in the order of time, equal times in the order of the file", () => {
    const at = (second: number) => `2023-11-16 18:00:0${second}`;
    const text = `${HEAD}\n${at(3)},1,9\n${at(1)},2,9\n${at(3)},3,9\n`;
    const outcome = readRequestTrace(text);
    expect(outcome.ok && outcome.value.requests.map(({ promptTokens }) => promptTokens)).toEqual([2, 1, 3]);
  });

  test("of Mooncake's lines keeps the ids of prefix blocks", () => {
    const text =
      '{"timestamp": 3000, "input_length": 600, "output_length": 6, "hash_ids": [4, 7]}\n{"timestamp": 3500, "input_length": 1, "output_length": 1}\n';
    const outcome = readRequestTrace(text);
    expect(outcome).toEqual({
      ok: true,
      value: {
        startMs: null,
        requests: [
          { atSeconds: 0, promptTokens: 600, outputTokens: 6, prefixBlocks: [4, 7] },
          { atSeconds: 0.5, promptTokens: 1, outputTokens: 1, prefixBlocks: [] },
        ],
      },
    });
  });

  test.each([
    ["nothing", "", /line 1: is ""; must name the column TIMESTAMP/],
    ["a table without a column", "TIMESTAMP,ContextTokens\n", /line 1: .*must name the column GeneratedTokens/],
    ["a table without rows", `${HEAD}\n`, /is empty; must hold at least one request/],
    [
      "a row that is cut",
      `${HEAD}\n2023-11-16 18:00:00,5,5\n2023-11-16 18:00:01,5\n`,
      /line 3: is .*; must have 3 fields, has 2/,
    ],
    ["a time that is none", `${HEAD}\nyesterday,5,5\n`, /line 2\.TIMESTAMP: is "yesterday"; must be a time like/],
    ["a day that does not exist", `${HEAD}\n2023-02-30 18:00:00,5,5\n`, /line 2\.TIMESTAMP/],
    [
      "an answer of no tokens",
      `${HEAD}\n2023-11-16 18:00:00,5,0\n`,
      /line 2\.GeneratedTokens: is "0"; must be a number from 1/,
    ],
    ["a prompt of NaN tokens", `${HEAD}\n2023-11-16 18:00:00,NaN,5\n`, /line 2\.ContextTokens: is "NaN"/],
    ["a prompt beyond all models", `${HEAD}\n2023-11-16 18:00:00,1e9,5\n`, /line 2\.ContextTokens: is "1e9"/],
    ["quotation marks", `${HEAD}\n"2023-11-16 18:00:00",5,5\n`, /line 2: .*must have no quotation marks/],
    ["bytes of something else", "\u0000\u0001\u0002", /line 1: is "\\u0000\\u0001\\u0002"; must name the column/],
    [
      "a line of JSON that is broken",
      '{"timestamp": 0, "input_length": 5, "output_length": 5}\n{"timestamp":\n',
      /line 2: .*must be one JSON object/,
    ],
    ["a line of JSON without a length", '{"timestamp": 0, "input_length": 5}\n', /line 1\.output_length/],
  ])("is refused with its place for %s", (_what, text, message) => {
    expect(whyOf(readRequestTrace(text))).toMatch(message);
  });
});

describe("a model trace", () => {
  const head = "gmt_create,predict_type,predict_status,exec_time_seconds,checkpoint_model_version_id,num_lora";

  test("leaves out rows without a model, and counts them", () => {
    const text = `${head}\n2024-11-15 16:57:50,TXT,SUCCEED,32.0,M0000,0\n2024-11-15 16:58:00,TXT,FAILED,1.5,M0001,0\n2024-11-15 16:59:00,TXT,PENDING,0,,\n`;
    expect(readModelTrace(text)).toEqual({
      ok: true,
      value: {
        skippedCount: 1,
        requests: [
          { atMs: Date.UTC(2024, 10, 15, 16, 57, 50), modelId: "M0000", execSeconds: 32, hasSucceeded: true },
          { atMs: Date.UTC(2024, 10, 15, 16, 58), modelId: "M0001", execSeconds: 1.5, hasSucceeded: false },
        ],
      },
    });
  });

  test("is refused for a negative time of execution", () => {
    const text = `${head}\n2024-11-15 16:57:50,TXT,SUCCEED,-3,M0000,0\n`;
    expect(whyOf(readModelTrace(text))).toMatch(/line 2\.exec_time_seconds: is "-3"/);
  });

  test("comes with loads in ms, by time", () => {
    const outcome = readLoadLatencies("timestamp_anon,value,container_ip\n20.0,2639.0,b\n10.0,7109.5,a\n");
    expect(outcome).toEqual({
      ok: true,
      value: [
        { atSeconds: 10, loadMs: 7109.5, containerId: "a" },
        { atSeconds: 20, loadMs: 2639, containerId: "b" },
      ],
    });
  });
});

describe("a spot series", () => {
  test("gives counts and prices per tick", () => {
    const text = '{"metadata": {"gap_seconds": 34}, "data": [0, 1, 2], "prices": [1.5, 1.5, 2]}';
    expect(readSpotSeries(text, { name: "zone" })).toEqual({
      ok: true,
      value: { name: "zone", gapSeconds: 34, available: [0, 1, 2], pricesUsdPerHour: [1.5, 1.5, 2] },
    });
  });

  test.each([
    ["no gap", '{"metadata": {"gap_seconds": 0}, "data": [0, 1]}', /metadata\.gap_seconds: is 0; must be above 0/],
    ["a negative count", '{"metadata": {"gap_seconds": 5}, "data": [0, -1]}', /data\[1\]: is -1; must not be negative/],
    [
      "prices that do not match",
      '{"metadata": {"gap_seconds": 5}, "data": [0, 1], "prices": [1]}',
      /prices: is a list of 1; must have a price for each/,
    ],
    ["no JSON", "gap", /the spot series zone is no JSON/],
  ])("is refused for %s", (_what, text, message) => {
    expect(whyOf(readSpotSeries(text, { name: "zone" }))).toMatch(message);
  });
});

describe("a latency table", () => {
  test("gives round trips by place", () => {
    const text = '{"source": "x", "regions": ["a", "b"], "rtt": {"a": {"a": 0, "b": 35}, "b": {"a": 34, "b": 0}}}';
    expect(readLatencyTable(text)).toEqual({
      ok: true,
      value: {
        regions: ["a", "b"],
        rttMs: [
          [0, 35],
          [34, 0],
        ],
      },
    });
  });

  test("is refused for a pair that is missing", () => {
    const text = '{"regions": ["a", "b"], "rtt": {"a": {"a": 0, "b": 35}, "b": {"b": 0}}}';
    expect(whyOf(readLatencyTable(text))).toMatch(/rtt\.b\.a: is nothing; must be a number/);
  });
});

describe("whatever a trace holds, reading it ends in a trace or a refusal", () => {
  const readers = [
    readRequestTrace,
    readModelTrace,
    readLoadLatencies,
    readLatencyTable,
    (text: string) => readSpotSeries(text, { name: "zone" }),
  ];
  // Control characters, Latin, and halves of characters: what no file of text should hold. fast-check's own unit takes seconds to build.
  const anyUnit = fc
    .oneof(fc.nat(0x2ff), fc.integer({ min: 0xd800, max: 0xdfff }))
    .map((code) => String.fromCharCode(code));
  const isToldOrRead = (text: string) => {
    for (const read of readers) {
      const outcome = read(text);
      expect(outcome.ok || outcome.reason.message.length > 0).toBe(true);
    }
  };

  test("for any text", () => {
    fc.assert(fc.property(fc.string({ unit: anyUnit }), isToldOrRead));
  });

  test("for any JSON, and any lines of it", () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue({ maxDepth: 3 })), (values) =>
        isToldOrRead(values.map((value) => JSON.stringify(value)).join("\n")),
      ),
    );
  });

  test("for any cells below the right columns", () => {
    const cell = fc.oneof(fc.constantFrom("", "0", "-1", "1e999", "NaN", "2023-11-16 18:00:00", "5"), fc.string());
    const heads = [
      HEAD,
      "gmt_create,predict_status,exec_time_seconds,checkpoint_model_version_id",
      "timestamp_anon,value,container_ip",
    ];
    fc.assert(
      fc.property(fc.constantFrom(...heads), fc.array(fc.array(cell, { maxLength: 5 })), (head, rows) =>
        isToldOrRead([head, ...rows.map((cells) => cells.join(","))].join("\n")),
      ),
    );
  });
});
