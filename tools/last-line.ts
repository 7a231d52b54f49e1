import type { Reporter, TestModule } from "vitest/node";

/** Prints the totals alone on the last line of the run, where a script can read them with `tail -n 1`. */
export default class LastLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    let passed = 0;
    let failed = errors.length;
    let skipped = 0;
    for (const testModule of modules) {
      if (testModule.state() === "failed" && testModule.children.size === 0) failed++;
      for (const test of testModule.children.allTests()) {
        const { state } = test.result();
        if (state === "passed") passed++;
        else if (state === "failed") failed++;
        else skipped++;
      }
    }
    // Skipped tests are named by the default reporter above; the last line keeps one shape.
    if (skipped > 0) console.log(`${skipped} skipped`);
    process.on("exit", () => console.log(`${passed} passed, ${failed} failed`));
  }
}
