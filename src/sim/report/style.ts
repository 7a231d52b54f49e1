/** The reports' style sheet. Colours are told apart by people who do not see red and green apart; bars carry text in the page's own ink. */
export const STYLE = `
:root { color-scheme: light dark; --ink: #1b2230; --soft: #5b6577; --line: #d5dae3; --paper: #ffffff; --panel: #f5f7fa; --warn: #8a5200;
  --good: #1a7f4b; --bad: #b3261e;
  --c0: #2f6fde; --c1: #c96a10; --c2: #1f8f63; --c3: #a83c86; --c4: #6656cf; --c5: #007f92; --c6: #8a5a1f; --c7: #b8352f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf1; --soft: #a0aabb; --line: #39424f; --paper: #14181f; --panel: #1c222c; --warn: #f0b35a;
  --good: #5fd39a; --bad: #ff8f87;
  --c0: #7aa7ff; --c1: #f2a65a; --c2: #5fcf9f; --c3: #e58ac6; --c4: #a99cf5; --c5: #58c7d6; --c6: #d0a46a; --c7: #ff8f87; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 28px 20px 40px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 34px 0 4px; }
h3 { font-size: 14px; margin: 18px 0 4px; font-weight: 600; }
.subtitle, .lead, .empty { margin: 0 0 10px; color: var(--soft); overflow-wrap: anywhere; }
.notes { margin: 14px 0 0; padding: 10px 14px 10px 30px; border: 1px solid var(--line); border-left: 4px solid var(--warn); border-radius: 6px; background: var(--panel); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px; margin: 18px 0 0; }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; background: var(--panel); min-width: 0; }
.tile dt { color: var(--soft); font-size: 13px; }
.tile dd { margin: 0; font-size: 22px; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.tile dd small { font-size: 13px; font-weight: 400; color: var(--soft); }
.tile p { margin: 2px 0 0; font-size: 12px; color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; min-width: 50%; }
th, td { text-align: left; padding: 5px 16px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); } .soft { color: var(--soft); } .block { display: block; font-size: 12px; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 6px 0; padding: 0; font-size: 13px; }
.legend li { overflow-wrap: anywhere; }
.swatch { display: inline-block; width: 14px; height: 12px; margin-right: 6px; border-radius: 3px; background: var(--swatch); vertical-align: -1px; }
.swatch.line { height: 3px; vertical-align: 4px; }
figure { margin: 8px 0 0; }
figcaption { font-size: 13px; color: var(--soft); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 8px 28px; }
@media (max-width: 560px) { .pair { grid-template-columns: 1fr; } }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg.plot { max-width: 560px; }
svg.broad { min-width: 780px; }
svg text { fill: var(--ink); font: 12px system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; font-variant-numeric: tabular-nums; }
svg text.axis { fill: var(--soft); } svg text.end { text-anchor: end; } svg text.middle { text-anchor: middle; }
svg .grid { stroke: var(--line); stroke-width: 1; shape-rendering: crispEdges; }
svg .rule { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 4 3; }
svg .track { fill: var(--panel); stroke: var(--line); stroke-width: 0.5; }
svg .bar { fill: var(--swatch); fill-opacity: 0.28; stroke: var(--swatch); stroke-width: 1; }
svg .area { fill: var(--swatch); fill-opacity: 0.45; } svg .solid { fill: var(--swatch); } svg .mark { stroke: var(--swatch); stroke-width: 2; }
svg .curve { fill: none; stroke: var(--swatch); stroke-width: 2; stroke-linejoin: round; }
.c0 { --swatch: var(--c0); } .c1 { --swatch: var(--c1); } .c2 { --swatch: var(--c2); } .c3 { --swatch: var(--c3); }
.c4 { --swatch: var(--c4); } .c5 { --swatch: var(--c5); } .c6 { --swatch: var(--c6); } .c7 { --swatch: var(--c7); }
footer { margin-top: 40px; padding-top: 12px; border-top: 1px solid var(--line); font-size: 13px; color: var(--soft); overflow-wrap: anywhere; }
@media print { main { max-width: none; } section { break-inside: avoid; } }
`;
