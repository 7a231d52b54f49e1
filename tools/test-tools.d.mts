export declare function findPostgresBin(): string | null;
export declare function findChromium(): string | null;
export declare function isCi(): boolean;
export declare const TOOLS: readonly {
  readonly name: string;
  readonly suites: string;
  readonly find: () => string | null;
  readonly debianPackages: readonly string[];
  readonly variable: string;
}[];
