import { describe, expect, test } from "vitest";
import { addressProblem, guardedLookup, privateHostsOf } from "./provider-address.ts";

describe("addresses of providers", () => {
  test.each([
    "https://api.example.com/v1",
    "http://127.0.0.1:8420/v1",
    "http://localhost:8080",
    "http://[::1]:9/v1",
    "https://10.1.2.3/v1",
    "http://192.168.1.5:8000/v1",
  ])("%s may be spoken to", (baseUrl) => {
    expect(addressProblem(baseUrl, [])).toBeNull();
  });

  test.each([
    ["http://api.example.com/v1", /in the clear/],
    ["http://93.184.216.34/v1", /in the clear/],
    ["https://169.254.169.254/v1", /no provider has/],
    ["https://[::ffff:169.254.169.254]/v1", /no provider has/],
    ["http://0.0.0.0/v1", /no provider has/],
    ["https://me:pw@api.example.com/v1", /user or password/],
    ["https://api.example.com/v1?key=1", /query/],
    ["https://api.example.com/v1#x", /fragment/],
    ["file:///etc/passwd", /neither/],
    ["api.example.com/v1", /no address/],
    [`https://${"a".repeat(600)}/`, /no address/],
  ])("%s may not", (baseUrl, why) => {
    expect(addressProblem(baseUrl, [])).toMatch(why);
  });

  test("a name of the operator's own network is spoken to when he listed it", () => {
    const hosts = privateHostsOf({ FALLOW_PRIVATE_PROVIDERS: "vllm.internal:8000, *.lab.example" });
    expect(addressProblem("http://vllm.internal:8000/v1", hosts)).toBeNull();
    expect(addressProblem("http://gpu1.lab.example/v1", hosts)).toBeNull();
    expect(addressProblem("http://lab.example.evil.com/v1", hosts)).toMatch(/in the clear/);
  });

  test("a name that leads into a private network leads nowhere unless it is listed", async () => {
    const look = (hosts: readonly string[], name: string) =>
      new Promise((resolve) =>
        guardedLookup(hosts)(name, { all: true }, (error, found) => resolve(error?.message ?? found)),
      );
    const here = [expect.objectContaining({ address: expect.stringMatching(/^(127\.0\.0\.1|::1)$/) })];
    expect(await look([], "localhost")).toEqual(expect.arrayContaining(here));
    // The same name to the resolver, and not the word that an operator means this machine by.
    expect(await look([], "LOCALHOST")).toMatch(/leads into a private network/);
    expect(await look(["LOCALHOST"], "LOCALHOST")).toEqual(expect.arrayContaining(here));
  });
});
