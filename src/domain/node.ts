/**
 * A node as the coordinator sees it.
 *
 * | state    | link opens (key proved) | message arrives | silent suspectMs | silent deadMs | link closes | drain ordered | removed |
 * | -------- | ----------------------- | --------------- | ---------------- | ------------- | ----------- | ------------- | ------- |
 * | offline  | online                  | bug             | -                | -             | -           | offline, kept | gone    |
 * | online   | online, old link closed | online          | suspect          | -             | offline     | draining      | gone    |
 * | suspect  | online, old link closed | online          | -                | offline       | offline     | draining      | gone    |
 * | draining | draining                | draining        | suspect          | offline       | offline     | draining      | gone    |
 *
 * `suspect` takes no new work and its attempts move. `offline` is in no plan and its link is closed.
 */
export type NodeState = "online" | "suspect" | "draining" | "offline";

/** A replica's life on its node: `planned -> loading -> ready -> draining -> gone`, or `failed` with a cause. */
export type ReplicaState = "planned" | "loading" | "ready" | "draining" | "failed" | "gone";

/** Detection bounds, stated in docs/failure-detection.md and tested by SIGKILL and SIGSTOP. */
export const LIVENESS = {
  /** Every agent sends one message at least this often. */
  heartbeatMs: 1_000,
  /** Two missed heartbeats and half a second of scheduling noise: within the promised 3 s. */
  suspectMs: 2_500,
  /** Within the promised 5 s. */
  deadMs: 4_500,
  /** How often the coordinator looks. */
  checkMs: 250,
} as const;
