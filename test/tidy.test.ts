/**
 * Checks that neither the compiler nor biome makes. Each one collects every place that breaks it, so that one run shows
 * all of them, and each says why the rule is there. The code is looked at with comments and strings blanked out: a rule
 * may be talked about, and a string may hold anything.
 *
 * Not handled: a regular expression that holds a quote can hide the rest of its line.
 */
import { execFileSync } from "node:child_process";
import { existsSync, lstatSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const self = "test/tidy.test.ts";

/** What each room may import: the table of the design. A room that is not listed here does not exist. */
const SHELL_MAY_USE = ["domain", "inference", "weights", "scheduler", "market", "trust", "wire", "ports"];
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  domain: [],
  wire: ["domain"],
  inference: ["domain"],
  weights: ["domain"],
  scheduler: ["domain"],
  market: ["domain"],
  trust: ["domain"],
  ports: ["domain"],
  coordinator: SHELL_MAY_USE,
  agent: SHELL_MAY_USE,
  adapters: ["ports", "wire", "domain", "weights", "inference", "market"],
  sim: [...SHELL_MAY_USE, "coordinator", "agent"],
  cli: [...SHELL_MAY_USE, "coordinator", "agent", "adapters", "sim"],
};
const PURE_ROOMS = ["domain", "inference", "weights", "scheduler", "market", "trust"];

/** Packages that a room may import; a room that is not listed may import any dependency that biome lets it. */
const PURE_PACKAGES = ["@huggingface/jinja", "canonicalize"];
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  ...Object.fromEntries(PURE_ROOMS.map((room) => [room, PURE_PACKAGES])),
  wire: ["zod", "canonicalize"],
  ports: [],
};

interface SourceFile {
  readonly path: string;
  readonly text: string;
  /** The text with the contents of comments and strings blanked out, line for line. */
  readonly code: string;
}

const read = (path: string): string => readFileSync(join(root, path), "utf8");

const COMMENT_OR_STRING = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`/g;

function blank(text: string): string {
  return text.replace(COMMENT_OR_STRING, (found) => found.replace(/[^\n]/g, " "));
}

function listFiles(): readonly string[] {
  const options = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const listed = execFileSync("git", options, { cwd: root, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
  return [...new Set(listed.split("\0"))]
    .filter((path) => path !== "" && lstatSync(join(root, path), { throwIfNoEntry: false })?.isFile() === true)
    .sort();
}

const files = listFiles();
const isCode = (path: string): boolean => /\.(ts|mts|mjs|js|tsx)$/.test(path);
const isTest = (path: string): boolean => /\.test\.ts$/.test(path) || path.startsWith("test/");
const roomOf = (path: string): string => /^src\/([^/]+)\//.exec(path)?.[1] ?? "";
const sources: readonly SourceFile[] = files
  .filter((path) => isCode(path) && path !== self)
  .map((path) => {
    const text = read(path);
    return { path, text, code: blank(text) };
  });

/** Every match of the pattern as `path:line: matched text`. */
function find(
  pattern: RegExp,
  where: { readonly among?: (path: string) => boolean; readonly isInText?: boolean },
): readonly string[] {
  const among = where.among ?? ((): boolean => true);
  const found: string[] = [];
  for (const file of sources.filter((source) => among(source.path))) {
    const text = where.isInText === true ? file.text : file.code;
    for (const match of text.matchAll(pattern)) {
      const line = text.slice(0, match.index).split("\n").length;
      found.push(`${file.path}:${line}: ${match[0].trim()}`);
    }
  }
  return found;
}

function expectNone(violations: readonly string[], why: string): void {
  if (violations.length > 0) expect.fail(`${why}\n  ${violations.join("\n  ")}\n`);
}

describe("names", () => {
  test("a file is named for the one thing that it holds", () => {
    const vague = /^(utils?|helpers?|types|common|misc|shared|constants)\.[a-z]+$|manager|service(?!-tier)/;
    const found = sources.map(({ path }) => path).filter((path) => vague.test(basename(path)));
    expectNone(found, "These names say nothing about what is inside, so anything ends up there. Name the thing.");
  });

  test("files are kebab-case", () => {
    const found = files.filter(
      (path) =>
        /^(src|test|bench|tools|web)\//.test(path) &&
        isCode(path) &&
        !/^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+)+$/.test(basename(path)),
    );
    expectNone(found, "One spelling works on every file system, also on those that ignore case.");
  });

  test("index.ts stands only at a room's root", () => {
    const found = files.filter(
      (path) => /(^|\/)index\.ts$/.test(path) && !/^(src\/[^/]+|web\/src)\/index\.ts$/.test(path),
    );
    expectNone(found, "index.ts is a room's front door. Inside a room, import the file that holds the thing.");
  });
});

describe("types", () => {
  test("nothing is typed any", () => {
    expectNone(
      find(/\bas any\b|:\s*any\b(?!\s*:)|<any>|\bany\[\]/g, {}),
      "any switches the compiler off for all that it touches. Take unknown and parse it with a schema.",
    );
  });

  test("no cast passes by way of unknown", () => {
    expectNone(
      find(/\bas unknown as\b/g, {
        among: (path) => path.startsWith("src/") && !isTest(path) && roomOf(path) !== "adapters",
      }),
      "A double cast says that the types are wrong. Parse at the border, or correct the type.",
    );
  });

  test("no error of the compiler is silenced", () => {
    expectNone(
      find(/@ts-(ignore|nocheck|expect-error)\b/g, { isInText: true, among: (path) => !isTest(path) }),
      "A silenced error hides the next one on the same line as well.",
    );
  });

  test("no null check is skipped with an exclamation mark", () => {
    expectNone(
      find(/[\w)\]]!(?=[.[);,]|\s*$)/gm, {}),
      "`!` is a promise nobody checks. Use assert(), which says what must hold, or handle the absence.",
    );
  });

  test("there is no default export", () => {
    expectNone(
      find(/\bexport default\b/g, { among: (path) => !/\.config\.ts$/.test(path) && path !== "tools/last-line.ts" }),
      "A default export has another name in every file that imports it.",
    );
  });
});

describe("tests", () => {
  test("no test is switched off, and none keeps the others from running", () => {
    expectNone(
      find(/\b(?:test|it|describe)\.(?:skip|only|todo)\(|\b(?:x|f)(?:it|describe)\(/g, {}),
      "A skipped test rots, and `.only` hides all others. Use `skipIf(reason)` for a test that needs a GPU.",
    );
  });
});

describe("comments", () => {
  test("a TODO names its issue", () => {
    expectNone(
      find(/\b(?:TODO|FIXME|XXX|HACK)\b(?!\(#\d+\))[^\n]{0,60}/g, { isInText: true }),
      "A TODO without an issue is never done. Write TODO(#123), or do it.",
    );
  });
});

describe("rooms", () => {
  const fenced = [...PURE_ROOMS, "coordinator", "agent"];
  const isFenced = (path: string): boolean => fenced.includes(roomOf(path)) && !isTest(path);

  test("pure rooms and shells take time and randomness as values or through ports", () => {
    expectNone(
      find(/\bDate\.now\b|\bnew Date\(\)|\bMath\.random\b|\bglobalThis\b|\bperformance\.now\b/g, { among: isFenced }),
      "The simulator replays a run from its seed only if nothing asks the machine for time or randomness.",
    );
  });

  test("pure rooms, wire and ports import no package that is not listed for them", () => {
    const found = sources.flatMap(({ path, text }) => {
      const allowed = PACKAGES[roomOf(path)];
      if (allowed === undefined || isTest(path)) return [];
      const imported = [...text.matchAll(/^(?:import|export)\s(?:[\w\s{},*$]*\sfrom\s+)?["']([^."'][^"']*)["']/gm)].map(
        (match) => match[1] ?? "",
      );
      const name = (specifier: string): string =>
        specifier
          .split("/")
          .slice(0, specifier.startsWith("@") ? 2 : 1)
          .join("/");
      return imported
        .filter((specifier) => !allowed.includes(name(specifier)))
        .map((specifier) => `${path}: ${specifier}`);
    });
    expectNone(found, "A package can bring I/O, clocks and globals into a room that promises to have none.");
  });

  test("no import hides its target from the compiler", () => {
    expectNone(
      find(/\bimport\(\s*(?!["'\s])[\w(]/g, {
        among: (path) => path.startsWith("src/") && !isTest(path) && roomOf(path) !== "cli",
      }),
      "The compiler checks the direction between rooms only where it can read the specifier.",
    );
  });

  test("each room's references are those of the design", () => {
    const found = Object.entries(ROOMS).flatMap(([room, mayUse]) => {
      const config: { references?: { path: string }[] } = JSON.parse(read(`src/${room}/tsconfig.json`));
      const actual = (config.references ?? []).map(({ path }) => basename(path)).sort();
      return actual.join() === [...mayUse].sort().join() ? [] : [`src/${room}/tsconfig.json: ${actual.join(", ")}`];
    });
    expectNone(found, "The direction of imports is a decision of the design; change it there and in this table first.");
  });

  test("every folder of src is a room that tsc -b knows", () => {
    const config: { references: { path: string }[] } = JSON.parse(read("tsconfig.json"));
    const known = config.references.map(({ path }) => path);
    const found = [...new Set(files.map(roomOf))].filter(
      (room) => room !== "" && (!(room in ROOMS) || !known.includes(`src/${room}`)),
    );
    expectNone(found, "A folder without a project is not type-checked and may import anything.");
  });
});

describe("what is tracked", () => {
  const texts = files.filter((path) => path !== self && statSync(join(root, path)).size < 4_000_000 && isText(path));

  function isText(path: string): boolean {
    return !readFileSync(join(root, path)).subarray(0, 8000).includes(0);
  }

  test("no file names a package registry or mirror", () => {
    const pattern =
      /npmjs\.|pypi\.|pythonhosted|artifactory|\/\/registry\.|registry\s*=\s*["']?http|(?:deb|security|archive)\.(?:debian|ubuntu)\./i;
    const found = texts.filter((path) => pattern.test(read(path)));
    expectNone(found, "Where packages come from is the business of the machine that installs them.");
  });

  test("the lockfiles hold integrity hashes and no addresses", () => {
    const found = ["package-lock.json", "tools/node-runtime/package-lock.json"].flatMap((path) => {
      const lock: { packages: Record<string, { resolved?: string; integrity?: string; link?: boolean }> } = JSON.parse(
        read(path),
      );
      return Object.entries(lock.packages)
        .filter(([name, entry]) => name !== "" && (entry.resolved !== undefined || entry.integrity === undefined))
        .map(([name]) => `${path}: ${name}`);
    });
    expectNone(found, "Run npm with the repository's .npmrc, which leaves the addresses out.");
  });

  test("the lockfile keeps the arm64 engine off x64 machines", () => {
    const lock: { packages: Record<string, { cpu?: string[] }> } = JSON.parse(read("package-lock.json"));
    const cpu = lock.packages["node_modules/@node-llama-cpp/linux-arm64"]?.cpu;
    expect(
      cpu,
      "The package claims x64 as well, which costs 20 MB: set its cpu in package-lock.json to arm64 only.",
    ).toEqual(["arm64"]);
  });

  test("no file holds a path of the machine on which it was written", () => {
    const pattern = /\/work\/(?:main|shared)\b|\/root\/[\w.]|\/Users\/\w|\/home\/\w+\//;
    const found = texts.filter((path) => pattern.test(read(path)));
    expectNone(found, "The path exists on one machine only.");
  });

  test("every link from a document to a file of the repository leads somewhere", () => {
    const found = files
      .filter((path) => path.endsWith(".md"))
      .flatMap((path) =>
        [...read(path).matchAll(/\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)/g)]
          .map((match) => (match[1] ?? "").replace(/[#?].*$/, ""))
          .filter((target) => target !== "" && !/^[a-z][a-z0-9+.-]*:/i.test(target))
          .filter((target) => !existsSync(join(root, target.startsWith("/") ? target : join(dirname(path), target))))
          .map((target) => `${path}: ${target}`),
      );
    expectNone(found, "A reader who follows the link finds nothing.");
  });
});

describe("dependencies", () => {
  const manifest: Record<string, Record<string, string> | undefined> = JSON.parse(read("package.json"));
  const groups = ["dependencies", "optionalDependencies", "devDependencies"];
  const entries = groups.flatMap((group) => Object.entries(manifest[group] ?? {}));

  test("each is pinned to one version", () => {
    const found = entries.filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version)).map(([name]) => name);
    expectNone(found, "A range lets two machines test two different programs.");
  });

  test("each has its reason in docs/dependencies.md", () => {
    const page = existsSync(join(root, "docs/dependencies.md")) ? read("docs/dependencies.md") : "";
    const found = entries.map(([name]) => name).filter((name) => !page.includes(`\`${name}\``));
    expectNone(
      found,
      "Strangers run this on their machines: each dependency needs a sentence that says what it saves.",
    );
  });
});

describe("metrics", () => {
  const isPanel = (path: string): boolean =>
    /^web\/|(?:status|dashboard)[^/]*(?:\/.*)?\.(?:html|js|ts|tsx)$/.test(path) && !isTest(path);
  const isDefinition = (path: string): boolean => path.startsWith("src/") && !isTest(path) && !isPanel(path);
  const names = (text: string): readonly string[] =>
    [...text.matchAll(/\bfallow_[a-z0-9_]+/g)].map((match) => baseName(match[0]));
  /** A histogram shows up as three series; the metric is the name that they share. */
  const baseName = (name: string): string => name.replace(/_(?:bucket|sum|count)$/, "");

  const defined = new Set(
    sources
      .filter(({ path }) => isDefinition(path))
      .flatMap(({ path, text }) =>
        [
          ...text.matchAll(
            /metric/.test(basename(path)) ? /["'](fallow_[a-z0-9_]+)["']/g : /name:\s*["'](fallow_[a-z0-9_]+)["']/g,
          ),
        ].map((match) => baseName(match[1] ?? "")),
      ),
  );
  const differences = (shown: ReadonlySet<string>): readonly string[] => [
    ...[...defined].filter((name) => !shown.has(name)).map((name) => `${name} is registered and not shown`),
    ...[...shown].filter((name) => !defined.has(name)).map((name) => `${name} is shown and not registered`),
  ];

  test("docs/metrics.md lists exactly the metrics that src registers", () => {
    if (!existsSync(join(root, "docs/metrics.md"))) return; // the page comes with the first metric
    expectNone(differences(new Set(names(read("docs/metrics.md")))), "An operator looks a metric up there.");
  });

  test("the status page shows exactly the metrics that src registers", () => {
    const panels = files.filter(isPanel);
    const shown = new Set(panels.flatMap((path) => names(read(path))));
    if (shown.size === 0) return; // the page comes with the first panel
    expectNone(
      differences(shown),
      "A metric that nobody sees is not worth its cost, and a panel without one stays empty.",
    );
  });
});
