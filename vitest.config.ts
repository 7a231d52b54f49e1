import { defineConfig } from "vitest/config";

// A test may need Node 24 in a child process too: node_modules/.bin comes first on PATH in every npm script.
export default defineConfig({
  test: {
    maxWorkers: 2,
    passWithNoTests: true,
    reporters: ["default", "./tools/last-line.ts"],
    coverage: { provider: "v8", include: ["src/**/*.ts"], reporter: ["text-summary"] },
    projects: [
      {
        test: {
          name: "unit",
          include: ["src/**/*.test.ts"],
          exclude: ["src/**/*.isolated.test.ts"],
          pool: "forks",
          isolate: false,
          // No test waits for a time: this only ends one that hangs, also on a busy machine.
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: "tidy",
          include: ["test/tidy.test.ts"],
          pool: "forks",
          isolate: false,
        },
      },
      {
        test: {
          name: "integration",
          include: ["test/**/*.test.ts", "src/**/*.isolated.test.ts"],
          exclude: ["test/soak/**", "test/tidy.test.ts"],
          pool: "forks",
          isolate: true,
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "soak",
          include: ["test/soak/**/*.test.ts"],
          pool: "forks",
          isolate: true,
          testTimeout: 600_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
