import { describe, expect, test } from "vitest";
import { ReuseForecast } from "./reuse-forecast.ts";
import { MODELS_TRACKED_MAX } from "./reuse-state.ts";

function feed(
  forecast: ReuseForecast,
  requests: readonly string[],
  tenant: (at: number) => string | null = () => null,
): number {
  for (const [at, modelId] of requests.entries()) forecast.take({ modelId, tenant: tenant(at), atMs: at * 10_000 });
  return requests.length * 10_000;
}

const cycle = (models: readonly string[], length: number) =>
  Array.from({ length }, (_, at) => models[at % models.length] ?? "");

describe("ReuseForecast", () => {
  test("a model asked for all the time is worth more than one asked for once", () => {
    const forecast = new ReuseForecast();
    const nowMs = feed(forecast, ["rare", ...cycle(["a", "b"], 300)]);
    const values = forecast.values(nowMs);
    expect(values.get("a")).toBeGreaterThan(0.6);
    expect(values.get("rare")).toBeLessThan(0.2);
  });

  test("what always follows the last request is worth most: recency alone would give it up", () => {
    const forecast = new ReuseForecast();
    const models = Array.from({ length: 20 }, (_, at) => `m${at}`);
    const nowMs = feed(forecast, cycle(models, 2_000));
    const values = [...forecast.values(nowMs)].sort((a, b) => b[1] - a[1]);
    expect(values[0]?.[0]).toBe("m0");
    const least = values.at(-1)?.[0] ?? "";
    expect(["m0", "m1", "m2"]).not.toContain(least);
  });

  test("where tenants turn after one model is learned from them", () => {
    const forecast = new ReuseForecast();
    const withTenants: { modelId: string; tenant: string }[] = [];
    for (let at = 0; at < 600; at++) {
      const tenant = `t${at}`;
      const first = at % 2 === 0 ? "draft" : "other";
      withTenants.push({ modelId: first, tenant }, { modelId: first === "draft" ? "final" : "other-final", tenant });
    }
    withTenants.push({ modelId: "draft", tenant: "now" });
    for (const [at, request] of withTenants.entries()) forecast.take({ ...request, atMs: at * 20_000 });
    const values = forecast.values(withTenants.length * 20_000);
    expect(values.get("final")).toBeGreaterThan(values.get("other-final") ?? 1);
  });

  test("what is kept and read back still knows which models matter", () => {
    const forecast = new ReuseForecast();
    const nowMs = feed(forecast, ["rare", ...cycle(["a", "b", "c"], 500)]);
    const again = new ReuseForecast(forecast.snapshot());
    const values = again.values(nowMs);
    expect(values.get("a")).toBeGreaterThan(2 * (values.get("rare") ?? 1));
    again.take({ modelId: "b", tenant: null, atMs: nowMs });
    expect(again.values(nowMs).size).toBe(4);
  });

  test("follows no more models than its bound, and forgets the one unused for longest", () => {
    const forecast = new ReuseForecast();
    const models = Array.from({ length: MODELS_TRACKED_MAX + 1 }, (_, at) => `m${at}`);
    const nowMs = feed(forecast, models);
    const values = forecast.values(nowMs);
    expect(values.size).toBe(MODELS_TRACKED_MAX);
    expect(values.has("m0")).toBe(false);
    for (const value of values.values()) expect(Number.isFinite(value)).toBe(true);
  });

  test("the same requests give the same values", () => {
    const run = () => {
      const forecast = new ReuseForecast();
      return [...forecast.values(feed(forecast, cycle(["a", "b", "c"], 100), (at) => `t${at % 4}`))];
    };
    expect(run()).toEqual(run());
  });
});
