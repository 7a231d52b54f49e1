/** Progress of long work that keeps the event loop busy: one line on a terminal, rewritten now and then; nothing elsewhere. */
import { openProgress } from "./terminal.ts";

export interface StepLine {
  step(text: string): void;
  end(): void;
}

/** Rewriting more often costs time and cannot be read. */
const REWRITE_MS = 100;

export function openStepLine(): StepLine {
  if (process.stderr.isTTY !== true) return { step: () => undefined, end: () => undefined };
  const progress = openProgress();
  let shownAtMs = Number.NEGATIVE_INFINITY;
  return {
    step: (text) => {
      const nowMs = performance.now();
      if (nowMs - shownAtMs < REWRITE_MS) return;
      shownAtMs = nowMs;
      progress.step(text);
    },
    end: () => progress.end(),
  };
}
