import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MAIN, makeHome, removeHome, runFallow } from "./support/grid.ts";

const COMMANDS = [
  ["up"],
  ["join"],
  ["doctor"],
  ["engine"],
  ["engine", "list"],
  ["engine", "install"],
  ["engine", "remove"],
  ["identity"],
  ["identity", "export"],
  ["identity", "restore"],
  ["plan"],
  ["sim"],
  ["sim", "serve"],
  ["sim", "churn"],
  ["status"],
  ["nodes"],
  ["nodes", "list"],
  ["nodes", "drain"],
  ["nodes", "undrain"],
  ["nodes", "remove"],
  ["models"],
  ["models", "list"],
  ["models", "add"],
  ["models", "show"],
  ["models", "rm"],
  ["models", "pull"],
  ["models", "verify"],
  ["models", "jobs"],
  ["models", "cancel"],
  ["keys"],
  ["keys", "list"],
  ["keys", "create"],
  ["keys", "revoke"],
  ["chat"],
  ["receipts"],
  ["receipts", "list"],
  ["receipts", "get"],
  ["receipts", "verify"],
  ["ledger"],
  ["ledger", "accounts"],
  ["ledger", "transfers"],
  ["ledger", "check"],
  ["ledger", "credit"],
  ["join-code"],
] as const;

describe("the command line without a grid", () => {
  let home: string;
  beforeAll(() => {
    home = makeHome();
  });
  afterAll(() => removeHome(home));

  test.each(COMMANDS.map((command) => [command.join(" "), command] as const))(
    "fallow %s --help explains itself and ends with 0",
    async (name, command) => {
      const { code, stdout } = await runFallow([...command, "--help"], { home });
      expect(code).toBe(0);
      expect(stdout).toContain(`Usage: fallow ${name}`);
    },
  );

  test("help lists every command and the exit codes", async () => {
    const { code, stdout } = await runFallow(["--help"], { home });
    expect(code).toBe(0);
    for (const [command] of COMMANDS) expect(stdout).toContain(`  ${command}`);
    expect(stdout).toContain("Exit codes:");
    expect(stdout).not.toContain("agent-run");
  });

  test("a mistyped command is met with the right one and exit code 2", async () => {
    const { code, stderr } = await runFallow(["statsu"], { home });
    expect(code).toBe(2);
    expect(stderr).toContain("unknown command 'statsu' (Did you mean status?)");
    expect(stderr).toContain("fix:");
  });

  test.each([
    [["up", "--port", "99999"]],
    [["up", "--port", "abc"]],
    [["up", "--nonsense"]],
    [["keys", "revoke"]],
    [["keys", "create", "x", "--scopes", "root"]],
    [["join", "--max-vram", "lots", "fallow1_x"]],
    [["up", "--max-vram", "50MiB"]],
    [["up", "--stage-wire", "f8"]],
    [["up", "--chain-spares", "9"]],
    [["join", "--max-weights", "lots", "fallow1_x"]],
    [["status", "--url", "not-an-address"]],
    [[]],
  ])("fallow %j is a usage error, exit code 2", async (args) => {
    expect((await runFallow(args, { home })).code).toBe(2);
  });

  test("a command without a grid says how to start one, exit code 3", async () => {
    const { code, stderr } = await runFallow(["status"], { home });
    expect(code).toBe(3);
    expect(stderr).toBe(
      `fallow: no grid runs in ${home}\n   fix: start one with \`fallow up\`, or name one with --url\n`,
    );
  });

  test("an address where nobody listens is exit code 3, as JSON with --json", async () => {
    const { code, stderr, stdout } = await runFallow(["status", "--json", "--url", "http://127.0.0.1:9"], { home });
    expect(code).toBe(3);
    expect(stdout).toBe("");
    expect(JSON.parse(stderr)).toMatchObject({ event: "error", code: "grid-unreachable" });
  });

  test("a join code that was cut is refused with what to do, exit code 4", async () => {
    const { code, stderr } = await runFallow(["join", "fallow1_AAAA"], { home });
    expect(code).toBe(4);
    expect(stderr).toContain("join code");
    expect(stderr).toContain("fix:");
  });

  test("join without a code in a new home asks for one, exit code 2", async () => {
    const { code, stderr } = await runFallow(["join"], { home });
    expect(code).toBe(2);
    expect(stderr).toContain("has not joined a grid yet");
  });

  test("a file that is no receipt fails the check by name, exit code 5", async () => {
    const file = join(home, "not-a-receipt.json");
    writeFileSync(file, "{}");
    const { code, json } = await runFallow(["receipts", "verify", file, "--json"], { home });
    expect(code).toBe(5);
    expect(json).toMatchObject({ isValid: false, checks: [{ name: "schema", isPassed: false }] });
  });

  test("a file that is not even JSON fails the check and is named, exit code 5", async () => {
    const file = join(home, "text.json");
    writeFileSync(file, "hello");
    const { code, stderr } = await runFallow(["receipts", "verify", file], { home });
    expect(code).toBe(5);
    expect(stderr).toContain(`${file} is no receipt: it is not JSON`);
  });

  test("a reader that leaves early is no error: nothing is on stderr, exit code 0", async () => {
    const child = spawn(process.execPath, [MAIN, "--help"], { stdio: ["ignore", "pipe", "pipe"] });
    child.stdout.destroy();
    child.stderr.setEncoding("utf8");
    let stderr = "";
    child.stderr.on("data", (text: string) => {
      stderr += text;
    });
    const [code] = await once(child, "close");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  });

  test("through npm, errors name commands as they are typed there", async () => {
    const { stderr } = await runFallow(["status"], { home, env: { npm_lifecycle_event: "fallow" } });
    expect(stderr).toContain("start one with `npm run -s fallow -- up`");
  });

  test("a home that cannot be written to is refused with a fix", async () => {
    const file = join(home, "a-file");
    writeFileSync(file, "");
    const { code, stderr } = await runFallow(["up", "--port", "0"], { home: join(file, "home") });
    expect(code).toBe(1);
    expect(stderr).toContain("cannot be used as a home");
    expect(stderr).toContain("--home");
  });

  test("damaged secrets are an error and never replaced", async () => {
    const damaged = join(home, "damaged");
    mkdirSync(damaged, { mode: 0o700 });
    writeFileSync(join(damaged, "home.json"), '{"apiKey":');
    const { code, stderr } = await runFallow(["up", "--port", "0"], { home: damaged });
    expect(code).toBe(1);
    expect(stderr).toContain("home.json is damaged");
  });
});

describe("fallow doctor", () => {
  let home: string;
  beforeAll(() => {
    home = makeHome();
  });
  afterAll(() => removeHome(home));

  interface Report {
    readonly ok: boolean;
    readonly checks: readonly { name: string; state: string; detail: string; fix: string | null }[];
  }
  const doctor = async (args: readonly string[], env: Record<string, string> = {}): Promise<[unknown, Report]> => {
    const { code, json } = await runFallow(["doctor", "--json", ...args], { home, env });
    return [code, json as Report];
  };

  test("a taken port and an open home are found, each with its cause and fix, and the engine is really loaded", async () => {
    chmodSync(home, 0o755);
    const server = createServer();
    const port = await new Promise<number>((resolve) => {
      server.listen(0, "127.0.0.1", () => {
        const address = server.address();
        resolve(typeof address === "object" && address !== null ? address.port : 0);
      });
    });
    const [code, report] = await doctor(["--port", String(port)]);
    server.close();
    chmodSync(home, 0o700);
    expect(code).toBe(5);
    expect(report.ok).toBe(false);
    const found = new Map(report.checks.map((check) => [check.name, check]));
    expect(found.get("port")).toMatchObject({ state: "problem" });
    expect(found.get("port")?.detail).toContain(`process ${process.pid}`);
    expect(found.get("port")?.fix).toContain("--port");
    expect(found.get("home")).toMatchObject({ state: "problem", fix: `chmod 700 ${home}` });
    expect(found.get("node")).toMatchObject({ state: "ok" });
    expect(found.get("engine")?.state).toBe("ok");
    expect(found.get("engine")?.detail).toContain("self-test");
    for (const check of report.checks) expect(check.state === "problem" ? check.fix : "none").toBeTruthy();
  });

  test("a grid that does not answer is a problem with exit code 5", async () => {
    const [code, report] = await doctor(["--port", "0", "--url", "http://127.0.0.1:9"]);
    expect(code).toBe(5);
    expect(report.checks.find(({ name }) => name === "coordinator")).toMatchObject({ state: "problem" });
    expect(existsSync(join(home, "up.lock"))).toBe(false);
  });
});
