/** What a seed and a kind of churn draw before any policy is asked: machines, their comings and goings, and requests. */
import type { ServiceTier } from "../../../domain/tier.ts";
import type { ChurnKind } from "../churn-report.ts";
import type { SimModel } from "../policies/served-mix.ts";
import type { Availability } from "./availability.ts";
import type { GpuClass } from "./gpu-classes.ts";

export interface NodeDraw {
  readonly name: string;
  readonly gpu: GpuClass;
  /** Index into the scenario's regions. */
  readonly region: number;
  /** Failure domain: machines of one owner leave together more often than others. */
  readonly owner: string;
  /** What its habits have in common with others: what a forecast shrinks to. */
  readonly cohort: string;
  readonly zoneHours: number;
  readonly downBytesPerMs: number;
  readonly upBytesPerMs: number;
  readonly diskReadBytesPerMs: number;
  readonly diskBytes: number;
  readonly availability: Availability;
}

export interface RequestDraw {
  readonly atMs: number;
  /** Index into the scenario's models. */
  readonly model: number;
  readonly tier: ServiceTier;
  readonly promptTokens: number;
  readonly outputTokens: number;
}

export interface Scenario {
  readonly kind: ChurnKind;
  readonly seed: number;
  /** Requests come from 0 to `endMs`; availability begins at `-historyMs` and goes on until the last patience ends. */
  readonly endMs: number;
  readonly historyMs: number;
  /** Monday 00:00 UTC is 0. */
  readonly startHourOfWeekUtc: number;
  readonly regionNames: readonly string[];
  /** The coordinator sits in region 0. */
  readonly rttMs: readonly (readonly number[])[];
  readonly models: readonly SimModel[];
  readonly nodes: readonly NodeDraw[];
  /** By time. */
  readonly requests: readonly RequestDraw[];
}

/** Between two machines of one region: homes of one country; measured tables give 0 there, for one data centre. */
export const REGION_RTT_MS = 12;
/** Between machines of one owner: a local network. */
export const LAN_RTT_MS = 0.6;

export function rttBetween(scenario: Scenario, a: NodeDraw, b: NodeDraw): number {
  if (a === b) return 0;
  if (a.owner === b.owner) return LAN_RTT_MS;
  return a.region === b.region ? REGION_RTT_MS : (scenario.rttMs[a.region]?.[b.region] ?? REGION_RTT_MS);
}

export function rttToCoordinator(scenario: Scenario, node: NodeDraw): number {
  return Math.max(REGION_RTT_MS, scenario.rttMs[0]?.[node.region] ?? 0);
}
